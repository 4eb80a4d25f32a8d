use std::{
    ops::{Index, IndexMut},
    str::FromStr,
};

use crate::testing::client_configure_request::RpcType;

/// A method of the test service that the client can call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// `EmptyCall`: answers nothing.
    EmptyCall,
    /// `UnaryCall`: answers with the server's hostname.
    UnaryCall,
}

/// One value for each method.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerMethod<T> {
    empty_call: T,
    unary_call: T,
}

/// A name that is no method's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown method {0:?}: use EmptyCall or UnaryCall")]
pub struct UnknownMethod(String);

// === impl Method ===

impl Method {
    /// Every method.
    pub const ALL: [Self; 2] = [Self::EmptyCall, Self::UnaryCall];

    /// The method's name, as in `--rpc` and in the watched statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmptyCall => "EmptyCall",
            Self::UnaryCall => "UnaryCall",
        }
    }

    /// The name of the method's type, as in the accumulated statistics.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::EmptyCall => RpcType::EmptyCall.as_str_name(),
            Self::UnaryCall => RpcType::UnaryCall.as_str_name(),
        }
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        let known = Self::ALL.into_iter().find(|method| method.name() == name);
        known.ok_or_else(|| UnknownMethod(name.to_owned()))
    }
}

impl From<RpcType> for Method {
    fn from(rpc_type: RpcType) -> Self {
        match rpc_type {
            RpcType::EmptyCall => Self::EmptyCall,
            RpcType::UnaryCall => Self::UnaryCall,
        }
    }
}

// === impl PerMethod ===

impl<T> Index<Method> for PerMethod<T> {
    type Output = T;

    fn index(&self, method: Method) -> &T {
        match method {
            Method::EmptyCall => &self.empty_call,
            Method::UnaryCall => &self.unary_call,
        }
    }
}

impl<T> IndexMut<Method> for PerMethod<T> {
    fn index_mut(&mut self, method: Method) -> &mut T {
        match method {
            Method::EmptyCall => &mut self.empty_call,
            Method::UnaryCall => &mut self.unary_call,
        }
    }
}
