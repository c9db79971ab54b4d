//! New secrets, from the operating system's randomness.

use aws_lc_rs::rand;
use guardian_model::{Capability, Ticket};

/// Bytes of a password: 192 bits, written as 48 hexadecimal digits.
const PASSWORD_LEN: usize = 24;

pub(crate) fn capability() -> Capability {
    Capability::from_bytes(random())
}

pub(crate) fn ticket() -> Ticket {
    Ticket::from_bytes(random())
}

pub(crate) fn password() -> String {
    hex(&random::<PASSWORD_LEN>())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    rand::fill(&mut bytes).expect("the operating system gives randomness once it has booted");
    bytes
}
