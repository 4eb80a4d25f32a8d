#![no_main]

mesh_fuzz::target!("istio_ca");
