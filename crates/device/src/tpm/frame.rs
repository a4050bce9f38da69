//! Responses (Part 1, section 18): header, handles, parameters. The chip is trusted no more than any
//! other peer: what it says is bounded before it is read.

use super::ResponseCode;

/// Tag, size and code.
const HEADER: usize = 10;
const SESSIONS: u16 = 0x8002;

/// A response whose frame is sound. Without handles and parameters unless it says success.
#[derive(Debug)]
pub(super) struct Response {
    code: ResponseCode,
    handles: Vec<u32>,
    parameters: Vec<u8>,
    /// What the sessions answered; empty without any.
    sessions: Vec<u8>,
}

impl Response {
    pub(super) fn parse(bytes: &[u8], handles: usize) -> Result<Self, &'static str> {
        let mut reader = Reader(bytes);
        let tag = reader.u16()?;
        let size = reader.u32()?;
        let code = ResponseCode(reader.u32()?);
        if usize::try_from(size) != Ok(bytes.len()) {
            return Err("its size is not what its header says");
        }
        if code != ResponseCode::SUCCESS {
            return Ok(Self {
                code,
                handles: Vec::new(),
                parameters: Vec::new(),
                sessions: Vec::new(),
            });
        }
        let handles = (0..handles)
            .map(|_| reader.u32())
            .collect::<Result<_, _>>()?;
        // With sessions the parameters have a length, and the sessions' answers follow.
        let (parameters, sessions) = if tag == SESSIONS {
            let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
            let parameters = reader.take(length)?.to_vec();
            (parameters, reader.0.to_vec())
        } else {
            (reader.0.to_vec(), Vec::new())
        };
        Ok(Self {
            code,
            handles,
            parameters,
            sessions,
        })
    }

    pub(super) const fn code(&self) -> ResponseCode {
        self.code
    }

    pub(super) fn handle(&self) -> Result<u32, &'static str> {
        self.handles.first().copied().ok_or("no handle")
    }

    pub(super) fn parameters(&self) -> Reader<'_> {
        Reader(&self.parameters)
    }

    /// `TPMS_AUTH_RESPONSE` of each session of the command, in its order.
    pub(super) fn sessions(&self) -> Reader<'_> {
        Reader(&self.sessions)
    }
}

/// The length of the whole response, from its first bytes.
pub(super) fn announced(header: [u8; HEADER]) -> u32 {
    let [_, _, a, b, c, d, ..] = header;
    u32::from_be_bytes([a, b, c, d])
}

/// What is left to read of the parameters.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.0.split_at_checked(length).ok_or("it is too short")?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk().ok_or("it is too short")?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, &'static str> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, &'static str> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_be_bytes)
    }

    /// The body of a `TPM2B_…`.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_as_long_as_it_says() {
        let honest = [0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 7, 8];
        let response = Response::parse(&honest, 0).unwrap();
        assert_eq!(response.parameters().rest(), [7, 8]);
        for cut in 0..honest.len() {
            assert!(Response::parse(&honest[..cut], 0).is_err(), "{cut}");
        }
    }

    #[test]
    fn parameters_end_where_their_length_says() {
        let bytes = [
            &[0x80, 2, 0, 0, 0, 24, 0, 0, 0, 0][..],
            &[0x80, 0, 0, 1, 0, 0, 0, 3, 0, 1, 9],
            &[0, 0, 0],
        ]
        .concat();
        let response = Response::parse(&bytes, 1).unwrap();
        assert_eq!(response.handle(), Ok(0x8000_0001));
        assert_eq!(response.parameters().sized(), Ok(&[9][..]));
        let mut lying = bytes;
        lying[17] = 200;
        assert!(Response::parse(&lying, 1).is_err());
    }

    #[test]
    fn an_error_carries_nothing_but_its_code() {
        let bytes = [0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x22];
        let response = Response::parse(&bytes, 1).unwrap();
        assert_eq!(response.code(), ResponseCode::RETRY);
    }
}
