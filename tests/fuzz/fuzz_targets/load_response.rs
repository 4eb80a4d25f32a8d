#![no_main]

mesh_fuzz::target!("load_response");
