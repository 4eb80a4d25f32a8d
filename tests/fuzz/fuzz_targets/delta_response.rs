#![no_main]

mesh_fuzz::target!("delta_response");
