//! A chip that takes its time to sign, as most do: it stands before a [`Swtpm`], delays every signature, counts
//! them, and holds one back for as long as a test wants.

use crate::swtpm::Swtpm;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// A command by which a chip signs (TPM 2.0 Library, Part 2, section 6.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signs {
    Certify,
    Quote,
    Sign,
}

impl Signs {
    const fn of(code: u32) -> Option<Self> {
        match code {
            0x148 => Some(Self::Certify),
            0x158 => Some(Self::Quote),
            0x15d => Some(Self::Sign),
            _ => None,
        }
    }
}

#[derive(Default)]
struct State {
    signed: BTreeMap<Signs, usize>,
    /// Signatures wait while this is set.
    holding: bool,
    /// How many wait.
    held: usize,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// The slow chip. Whoever connects to [`SlowChip::uri`] speaks to the emulator behind it.
pub struct SlowChip {
    folder: TempDir,
    shared: Shared,
}

impl SlowChip {
    /// Before `chip`, each of whose signatures takes `each` longer.
    ///
    /// # Errors
    /// When its socket cannot be bound.
    pub fn before(chip: &Swtpm, each: Duration) -> io::Result<Self> {
        let folder = crate::temp_dir()?;
        let listener = UnixListener::bind(folder.path().join("slow.sock"))?;
        let shared = Shared::default();
        let (behind, state) = (chip.socket(), Arc::clone(&shared));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (behind, state) = (behind.clone(), Arc::clone(&state));
                // A client that goes away in the middle ends its thread and nothing else.
                std::thread::spawn(move || drop(serve(client, &behind, &state, each)));
            }
        });
        Ok(Self { folder, shared })
    }

    /// As the agent's configuration names it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("swtpm:{}", self.folder.path().join("slow.sock").display())
    }

    /// How many signatures of this kind were asked for.
    #[must_use]
    pub fn signed(&self, what: Signs) -> usize {
        self.lock().signed.get(&what).copied().unwrap_or_default()
    }

    /// From now on signatures wait.
    pub fn hold(&self) {
        self.lock().holding = true;
    }

    /// How many wait now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().held
    }

    /// They wait no longer.
    pub fn release(&self) {
        self.lock().holding = false;
        self.shared.1.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SlowChip {
    fn drop(&mut self) {
        self.release();
    }
}

/// Frames to and fro until one of the two goes away.
fn serve(
    mut client: UnixStream,
    behind: &PathBuf,
    shared: &Shared,
    each: Duration,
) -> io::Result<()> {
    let mut chip = UnixStream::connect(behind)?;
    loop {
        let command = frame(&mut client)?;
        let code = command.get(6..10).and_then(|code| code.try_into().ok());
        if let Some(signs) = code.and_then(|code| Signs::of(u32::from_be_bytes(code))) {
            std::thread::sleep(each);
            let (state, released) = (&shared.0, &shared.1);
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            *state.signed.entry(signs).or_default() += 1;
            state.held += 1;
            while state.holding {
                state = released.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.held -= 1;
        }
        chip.write_all(&command)?;
        client.write_all(&frame(&mut chip)?)?;
    }
}

/// One command or response: its length stands behind its tag.
fn frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    const LONGEST: usize = 4096;
    let mut header = [0; 10];
    stream.read_exact(&mut header)?;
    let [_, _, a, b, c, d, ..] = header;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if !(header.len()..=LONGEST).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; length - header.len()];
    stream.read_exact(&mut rest)?;
    Ok([&header[..], &rest].concat())
}
