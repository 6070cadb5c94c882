//! What a receive brought, on its way into the batch.

/// A buffer that a receive has filled.
#[derive(Clone, Copy)]
pub struct Arrived {
    /// Which.
    pub id: u16,
    /// Of which socket.
    pub socket: u16,
    /// Bytes used.
    pub len: u32,
}
