//! The document that AWS's hypervisor signs about a Nitro enclave, by the enclave's security module
//! (Linux, `include/uapi/linux/nsm.h`; "Nitro Secure Module" of AWS's documentation).
//!
//! One question and one answer, both CBOR. A Unix socket in the place of the device takes the question whole and
//! returns the answer whole: for an emulator of the module. Not here: what the document is worth (`attest-tee`).

use rustix::fd::AsFd as _;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::ffi::c_void;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where an enclave's kernel has it.
pub const DEVICE: &str = "/dev/nsm";

/// `NSM_RESPONSE_MAX_SIZE`
const LONGEST_ANSWER: usize = 0x3000;
/// What the module takes in one field.
const LONGEST_FIELD: usize = 1024;
/// Of an emulator; the device itself answers at once.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the enclave's security module {path:?}")]
    Ask {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a field of the question is longer than {LONGEST_FIELD} bytes")]
    Question,
    #[error("the enclave's security module answered: {0}")]
    Refused(String),
    #[error("the enclave's security module answered with something else than a document")]
    Answer,
}

/// What a document has to carry.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub user_data: &'a [u8],
    pub nonce: &'a [u8],
    pub public_key: &'a [u8],
}

/// A document that carries `question`, by the module at `path`. Blocks.
///
/// # Errors
/// [`Error`].
pub fn document(path: &Path, question: &Question<'_>) -> Result<Vec<u8>, Error> {
    let asked = question.to_cbor().ok_or(Error::Question)?;
    let answer = exchange(path, &asked).map_err(|source| Error::Ask {
        path: path.to_owned(),
        source,
    })?;
    read(&answer)
}

fn exchange(path: &Path, asked: &[u8]) -> io::Result<Vec<u8>> {
    if path.metadata()?.file_type().is_socket() {
        return emulated(path, asked);
    }
    let device = File::options().read(true).write(true).open(path)?;
    let mut asked = asked.to_vec();
    let mut answer = vec![0; LONGEST_ANSWER];
    let length = {
        let exchange = Exchange::new(&mut asked, &mut answer);
        #[expect(unsafe_code, reason = "rustix has no NSM_IOCTL_RAW")]
        // SAFETY: `Exchange` describes the call as the kernel defines it. The kernel reads `asked` and writes at most
        // its length into `answer`; both are borrowed mutably until it has returned, and it keeps neither.
        unsafe { ioctl(device.as_fd(), exchange) }?
    };
    answer.truncate(length);
    Ok(answer)
}

fn emulated(path: &Path, asked: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(asked)?;
    stream.shutdown(Shutdown::Write)?;
    let most = u64::try_from(LONGEST_ANSWER).unwrap_or(u64::MAX);
    let mut answer = Vec::new();
    stream.take(most).read_to_end(&mut answer)?;
    Ok(answer)
}

/// `struct nsm_raw`: where the question is and how long, where the answer goes and how long it may be.
#[derive(Clone, Copy)]
#[repr(C)]
struct Raw {
    request: u64,
    request_length: u64,
    response: u64,
    response_length: u64,
}

/// One call, for as long as what it points to is borrowed.
struct Exchange<'a> {
    raw: Raw,
    _borrowed: std::marker::PhantomData<&'a mut [u8]>,
}

impl<'a> Exchange<'a> {
    fn new(asked: &'a mut [u8], answer: &'a mut [u8]) -> Self {
        let number = |it: usize| u64::try_from(it).unwrap_or(0);
        let (asked_length, answer_length) = (number(asked.len()), number(answer.len()));
        Self {
            raw: Raw {
                request: number(asked.as_mut_ptr().expose_provenance()),
                request_length: asked_length,
                response: number(answer.as_mut_ptr().expose_provenance()),
                response_length: answer_length,
            },
            _borrowed: std::marker::PhantomData,
        }
    }
}

#[expect(unsafe_code, reason = "rustix has no NSM_IOCTL_RAW")]
// SAFETY: the number is `_IOWR(0x0a, 0, struct nsm_raw)`, and the pointer is to such a structure, which the kernel
// writes back with the length of the answer.
unsafe impl Ioctl for Exchange<'_> {
    /// The length of the answer.
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Raw>(0x0a, 0)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.raw).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, raw: *mut c_void) -> rustix::io::Result<usize> {
        // SAFETY: it is what `as_ptr` gave, and the call has returned.
        let raw = unsafe { raw.cast::<Raw>().read() };
        Ok(usize::try_from(raw.response_length).unwrap_or(0))
    }
}

impl Question<'_> {
    /// `{"Attestation": {"user_data": …, "nonce": …, "public_key": …}}`
    fn to_cbor(self) -> Option<Vec<u8>> {
        let fields = [
            ("user_data", self.user_data),
            ("nonce", self.nonce),
            ("public_key", self.public_key),
        ];
        if fields.iter().any(|(_, bytes)| bytes.len() > LONGEST_FIELD) {
            return None;
        }
        let mut cbor = vec![0xa1];
        text(&mut cbor, "Attestation")?;
        cbor.push(0xa3);
        for (name, bytes) in fields {
            text(&mut cbor, name)?;
            let [high, low] = u16::try_from(bytes.len()).ok()?.to_be_bytes();
            cbor.extend([0x59, high, low]);
            cbor.extend(bytes);
        }
        Some(cbor)
    }
}

/// Names have fewer than 24 characters.
fn text(cbor: &mut Vec<u8>, name: &str) -> Option<()> {
    let length = u8::try_from(name.len())
        .ok()
        .filter(|length| *length < 24)?;
    cbor.push(0x60 | length);
    cbor.extend(name.as_bytes());
    Some(())
}

/// `{"Attestation": {"document": …}}`, or `{"Error": "InvalidArgument"}`.
fn read(answer: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = Reader(answer);
    let name = reader.named().ok_or(Error::Answer)?;
    match name {
        b"Attestation" => {
            let b"document" = reader.named().ok_or(Error::Answer)? else {
                return Err(Error::Answer);
            };
            let document = reader.string(2).ok_or(Error::Answer)?;
            Ok(document.to_vec())
        }
        b"Error" => {
            let why = reader.string(3).ok_or(Error::Answer)?;
            let why: String = String::from_utf8_lossy(why).chars().take(64).collect();
            Err(Error::Refused(why))
        }
        _ => Err(Error::Answer),
    }
}

/// Of the few forms of CBOR that the module writes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The name in a map of one, whose value follows.
    fn named(&mut self) -> Option<&'a [u8]> {
        (self.take(1)? == [0xa1]).then(|| self.string(3))?
    }

    /// A byte string, 2, or a text, 3.
    fn string(&mut self, major: u8) -> Option<&'a [u8]> {
        let head = *self.take(1)?.first()?;
        if head >> 5 != major {
            return None;
        }
        let length = match head & 0x1f {
            short @ 0..24 => usize::from(short),
            24 => usize::from(*self.take(1)?.first()?),
            25 => usize::from(u16::from_be_bytes(*self.take(2)?.as_array()?)),
            26 => usize::try_from(u32::from_be_bytes(*self.take(4)?.as_array()?)).ok()?,
            _ => return None,
        };
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const QUESTION: Question<'static> = Question {
        user_data: &[1; 64],
        nonce: &[2; 32],
        public_key: &[3; 91],
    };

    fn answered(document: &[u8]) -> Vec<u8> {
        let mut answer = vec![0xa1];
        text(&mut answer, "Attestation").unwrap();
        answer.push(0xa1);
        text(&mut answer, "document").unwrap();
        answer.push(0x59);
        answer.extend(u16::try_from(document.len()).unwrap().to_be_bytes());
        answer.extend(document);
        answer
    }

    #[test]
    fn the_call_has_the_kernels_number() {
        let exchange = Exchange::new(&mut [], &mut []);
        assert_eq!(exchange.opcode(), 0xc020_0a00);
    }

    #[test]
    fn the_question_is_what_the_module_reads() {
        let cbor = QUESTION.to_cbor().unwrap();
        let expected = [
            b"\xa1\x6bAttestation\xa3\x69user_data\x59\x00\x40".as_slice(),
            &[1; 64],
            b"\x65nonce\x59\x00\x20",
            &[2; 32],
            b"\x6apublic_key\x59\x00\x5b",
            &[3; 91],
        ]
        .concat();
        assert_eq!(cbor, expected);
        let long = Question {
            nonce: &[0; 1025],
            ..QUESTION
        };
        assert!(long.to_cbor().is_none());
    }

    #[test]
    fn an_answer_is_a_document_or_says_why_not() {
        assert_eq!(read(&answered(&[7; 300])).unwrap(), [7; 300]);
        let refused = read(b"\xa1\x65Error\x6fInvalidArgument").unwrap_err();
        assert!(refused.to_string().contains("InvalidArgument"), "{refused}");
        let whole = answered(&[7; 300]);
        for end in 0..whole.len() {
            assert!(matches!(read(&whole[..end]), Err(Error::Answer)), "{end}");
        }
        for byte in 0..=u8::MAX {
            assert!(read(&[byte; 64]).is_err());
        }
    }

    #[test]
    fn what_is_no_module_answers_nothing() {
        let nothing = document(Path::new("/dev/null"), &QUESTION);
        assert!(matches!(nothing, Err(Error::Ask { .. })), "{nothing:?}");
        let nowhere = document(Path::new("/nonexistent/nsm"), &QUESTION);
        assert!(matches!(nowhere, Err(Error::Ask { .. })));
    }

    #[test]
    fn an_emulator_is_asked_over_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nsm");
        let listener = UnixListener::bind(&path).unwrap();
        let emulator = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            stream.write_all(&answered(&asked)).unwrap();
        });
        let document = document(&path, &QUESTION).unwrap();
        emulator.join().unwrap();
        assert_eq!(document, QUESTION.to_cbor().unwrap());
    }
}
