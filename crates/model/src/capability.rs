//! Secrets that open a tenant's context. Their text never reaches a log: `Debug` prints a placeholder.

use std::fmt;

use zeroize::ZeroizeOnDrop;

macro_rules! secrets {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes from a cryptographic random source.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret itself: bind it as a parameter, never write it into SQL text.
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )+};
}

secrets! {
    /// Lets its bearer enter one tenant's context, again and again (DESIGN §4). Held sealed, by the control plane.
    Capability;
    /// Lets its bearer enter one tenant's context once, within a minute.
    Ticket;
}
