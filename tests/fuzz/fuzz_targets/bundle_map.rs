#![no_main]

mesh_fuzz::target!("bundle_map");
