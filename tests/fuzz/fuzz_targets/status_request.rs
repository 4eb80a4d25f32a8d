#![no_main]

mesh_fuzz::target!("status_request");
