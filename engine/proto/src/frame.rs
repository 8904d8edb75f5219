//! Frames on the stream between keeper and engine: `length:u32 type:u8 body`, the length counts type and body.

pub const MAX_FRAME: usize = 1 << 20;

/// Starts a frame at the end of `out`; give the result to `finish`.
pub fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    at
}

pub fn finish(out: &mut [u8], at: usize) {
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Collects a byte stream and gives out whole frames.
#[derive(Default)]
pub struct Deframer {
    bytes: Vec<u8>,
    start: usize,
}

/// The stream makes no sense any more; the connection has to end.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

impl Deframer {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame as (type, body).
    pub fn frame(&mut self) -> Result<Option<(u8, &[u8])>, Broken> {
        let rest = &self.bytes[self.start..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > MAX_FRAME {
            return Err(Broken);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let at = self.start + 4;
        self.start = at + length;
        Ok(Some((self.bytes[at], &self.bytes[at + 1..at + length])))
    }
}

impl Drop for Deframer {
    /// The stream carries session keys.
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&self.bytes);
    }
}
