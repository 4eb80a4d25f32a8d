#![no_main]

mesh_fuzz::target!("endpoint_load");
