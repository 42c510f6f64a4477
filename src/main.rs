//! flags -> limits -> trees -> listeners -> loop. Wiring only.
fn main() {}
