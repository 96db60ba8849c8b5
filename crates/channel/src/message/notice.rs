//! Short messages about a worker or a request.

use super::coding::Reader;
use crate::Violation;

/// The worker can take requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The generation that it answers to.
    pub generation: u32,
    /// How many requests it still holds, all of an earlier generation.
    pub busy: u32,
}

impl Ready {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> [u8; 8] {
        let [a, b, c, d] = self.generation.to_le_bytes();
        let [e, f, g, h] = self.busy.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// Read a `READY` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        let (generation, busy) = (reader.u32()?, reader.u32()?);
        reader.end()?;
        Ok(Self { generation, busy })
    }
}

/// The application has taken so many bytes of a streamed request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The request.
    pub id: u64,
    /// Bytes taken since the last credit.
    pub bytes: u64,
}

impl Credit {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        let (id, bytes) = out.split_at_mut(8);
        id.copy_from_slice(&self.id.to_le_bytes());
        bytes.copy_from_slice(&self.bytes.to_le_bytes());
        out
    }

    /// Read a `CREDIT` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        let (id, bytes) = (reader.u64()?, reader.u64()?);
        reader.end()?;
        Ok(Self { id, bytes })
    }
}

/// Why a request is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client has left (or the connection was cut).
    ClientLeft,
    /// `request_timeout` is over: the client has got 504.
    Timeout,
}

/// Nobody waits for a request any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel {
    /// The request.
    pub id: u64,
    /// Why.
    pub reason: Reason,
}

impl Cancel {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> [u8; 9] {
        let [a, b, c, d, e, f, g, h] = self.id.to_le_bytes();
        [a, b, c, d, e, f, g, h, u8::from(self.reason == Reason::Timeout)]
    }

    /// Read a `CANCEL` message.
    ///
    /// # Errors
    /// A [`Violation`] when it is not one.
    pub fn decode(message: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader(message);
        let id = reader.u64()?;
        let reason = match reader.u8()? {
            0 => Reason::ClientLeft,
            1 => Reason::Timeout,
            _ => return Err(Violation("an unknown reason to cancel")),
        };
        reader.end()?;
        Ok(Self { id, reason })
    }
}
