//! What callers ask of a test server by `rpc-behavior` metadata.

use std::time::Duration;

use tonic::{Code, Status, metadata::MetadataMap};

/// One thing that a server is to do before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    /// `error-code-N`: fail with this status; what follows is not done.
    Fail(Code),
    /// `keep-open`: never answer.
    KeepOpen,
    /// `sleep-N`: wait so many seconds.
    Sleep(Duration),
    /// `succeed-on-retry-attempt-N`, or `success-on-...` as it is documented: answer if this is the
    /// attempt after N others; what follows is not done.
    SucceedAfter(u32),
}

const KEY: &str = "rpc-behavior";
const ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// Does what the metadata asks of a server with this hostname, in order. Values are separated by
/// commas; one that starts with `hostname=NAME ` is for the server of that name.
pub(super) async fn behave(metadata: &MetadataMap, hostname: &str) -> Result<(), Status> {
    for behavior in asked(metadata, hostname)? {
        match behavior {
            Behavior::Fail(code) => {
                let text = format!("asked for by {KEY}: error-code-{}", code as i32);
                return Err(Status::new(code, text));
            }
            Behavior::KeepOpen => std::future::pending().await,
            Behavior::Sleep(time) => tokio::time::sleep(time).await,
            Behavior::SucceedAfter(attempts) if attempts == previous_attempts(metadata)? => {
                return Ok(());
            }
            Behavior::SucceedAfter(_) => {}
        }
    }
    Ok(())
}

/// What is asked of the server with this hostname.
fn asked(metadata: &MetadataMap, hostname: &str) -> Result<Vec<Behavior>, Status> {
    let mut asked = Vec::new();
    for value in metadata.get_all(KEY) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let part = part.trim();
            let behavior = match part.strip_prefix("hostname=") {
                Some(rest) => match rest.split_once(' ') {
                    Some((name, behavior)) if name == hostname => behavior.trim(),
                    Some(_) => continue,
                    None => return Err(unknown(part)),
                },
                None => part,
            };
            asked.push(parse(behavior).ok_or_else(|| unknown(part))?);
        }
    }
    Ok(asked)
}

fn parse(behavior: &str) -> Option<Behavior> {
    if behavior == "keep-open" {
        return Some(Behavior::KeepOpen);
    }
    if let Some(seconds) = behavior.strip_prefix("sleep-") {
        let time = Duration::from_secs(seconds.parse().ok()?);
        return Some(Behavior::Sleep(time));
    }
    if let Some(code) = behavior.strip_prefix("error-code-") {
        return Some(Behavior::Fail(Code::from_i32(code.parse().ok()?)));
    }
    let attempts = behavior
        .strip_prefix("succeed-on-retry-attempt-")
        .or_else(|| behavior.strip_prefix("success-on-retry-attempt-"))?;
    Some(Behavior::SucceedAfter(attempts.parse().ok()?))
}

/// How many attempts of the call came before this one.
fn previous_attempts(metadata: &MetadataMap) -> Result<u32, Status> {
    let Some(value) = metadata.get(ATTEMPTS) else {
        return Ok(0);
    };
    let attempts = value.to_str().ok().and_then(|text| text.parse().ok());
    attempts.ok_or_else(|| Status::invalid_argument(format!("{ATTEMPTS} is {value:?}")))
}

fn unknown(behavior: &str) -> Status {
    Status::invalid_argument(format!(
        "unknown {KEY} {behavior:?}: use keep-open, sleep-SECONDS, error-code-CODE or \
         succeed-on-retry-attempt-ATTEMPT, with or without hostname=NAME in front"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (key, value) in entries {
            metadata.append(*key, value.parse().unwrap());
        }
        metadata
    }

    async fn code(entries: &[(&'static str, &str)]) -> Code {
        match behave(&metadata(entries), "here").await {
            Ok(()) => Code::Ok,
            Err(status) => status.code(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn behaviors_are_done_in_order() {
        assert_eq!(code(&[]).await, Code::Ok);
        let start = tokio::time::Instant::now();
        assert_eq!(
            code(&[(KEY, "sleep-2, error-code-14,sleep-5")]).await,
            Code::Unavailable
        );
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        let both = [(KEY, "sleep-1"), (KEY, "error-code-5")];
        assert_eq!(code(&both).await, Code::NotFound);
        let open = metadata(&[(KEY, "keep-open")]);
        let hour = Duration::from_secs(3600);
        let ended = tokio::time::timeout(hour, behave(&open, "here")).await;
        assert!(ended.is_err());
    }

    #[tokio::test]
    async fn some_are_for_one_host_or_one_attempt() {
        let fails = |of: &str| format!("hostname={of} error-code-9");
        assert_eq!(
            code(&[(KEY, &fails("here"))]).await,
            Code::FailedPrecondition
        );
        assert_eq!(code(&[(KEY, &fails("there"))]).await, Code::Ok);

        for name in ["succeed", "success"] {
            let asked = format!("{name}-on-retry-attempt-2,error-code-14");
            let after = |attempts| [(KEY, &*asked), (ATTEMPTS, attempts)];
            assert_eq!(code(&[(KEY, &asked)]).await, Code::Unavailable);
            assert_eq!(code(&after("1")).await, Code::Unavailable);
            assert_eq!(code(&after("2")).await, Code::Ok);
            assert_eq!(code(&after("x")).await, Code::InvalidArgument);
        }
    }

    #[tokio::test]
    async fn what_is_not_known_is_refused() {
        for asked in ["nap-1", "sleep-", "error-code-x", "hostname=here", ""] {
            assert_eq!(
                code(&[(KEY, asked)]).await,
                Code::InvalidArgument,
                "{asked:?}"
            );
        }
    }
}
