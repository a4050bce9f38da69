//! A guest that runs: QEMU without hardware virtualisation, one processor, a TPM, a disk to boot from, the
//! host on its network, and a serial line on which it obeys.

use super::run::at;
use super::{GuestError, firmware};
use crate::mortal::{self, Parting};
use crate::swtpm::Swtpm;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// By which a guest reaches the loopback of the host.
pub const HOST: &str = "10.0.2.2";
/// Three times what the slowest boot takes on two cores.
const BOOT: Duration = Duration::from_secs(120);
/// Of a console that is shown.
const SHOWN: usize = 4_000;

/// Emulating takes a whole core: one guest at a time.
static ONE: Mutex<()> = Mutex::new(());

/// What a guest is made of.
pub struct Plan<'a> {
    /// Powered off; it is the guest's from here on.
    pub tpm: Swtpm,
    /// Copied, so that the firmware writes to the guest's own.
    pub variables: &'a Path,
    /// The disk that the firmware boots from, then others: `/dev/vda`, `/dev/vdb`.
    pub disks: &'a [&'a Path],
    /// For what the guest writes.
    pub folder: &'a Path,
}

/// How a command in a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub status: i32,
    /// Output and errors, as they came.
    pub output: String,
}

/// Ends when dropped.
pub struct Guest {
    qemu: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    console: PathBuf,
    /// From the start of the machine until it obeyed.
    pub booted_in: Duration,
    /// `uname -r` and the seconds that the kernel had run until then.
    pub greeting: String,
    _tpm: Swtpm,
    _one: MutexGuard<'static, ()>,
}

impl Guest {
    /// Starts the machine and waits until it obeys.
    ///
    /// # Errors
    /// When QEMU or swtpm fail, or the guest does not come up in two minutes: with the end of its console.
    pub fn boot(plan: Plan<'_>) -> Result<Self, GuestError> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let Plan {
            mut tpm,
            variables,
            disks,
            folder,
        } = plan;
        let control = tpm.power_on_for_guest()?;
        let own = folder.join("variables.fd");
        fs::copy(variables, &own).map_err(|source| at(&own, source))?;
        let console = folder.join("console.log");
        let mut qemu = mortal::command("qemu-system-x86_64", Parting::Kill)
            .map_err(|error| GuestError::Missing(error.to_string()))?;
        qemu.env("LC_ALL", "C.UTF-8");
        qemu.args([
            "-accel",
            "tcg,thread=multi",
            "-machine",
            "q35,smm=on,vmport=off",
        ]);
        qemu.args(["-cpu", "max", "-smp", "1", "-m", "512", "-nodefaults"]);
        qemu.args(["-display", "none", "-no-reboot", "-rtc", "base=utc"]);
        qemu.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
        let flash = |unit, file: &Path, more| {
            let file = file.display();
            format!("if=pflash,format=raw,unit={unit},file={file}{more}")
        };
        qemu.args(["-drive", &flash(0, &firmware::code(), ",readonly=on")]);
        qemu.args(["-drive", &flash(1, &own, "")]);
        qemu.args([
            "-chardev",
            &format!("socket,id=tpm,path={}", control.display()),
        ]);
        qemu.args(["-tpmdev", "emulator,id=tpm,chardev=tpm"]);
        qemu.args(["-device", "tpm-tis,tpmdev=tpm"]);
        for (number, disk) in disks.iter().enumerate() {
            let disk = disk.display();
            let drive = format!("file={disk},format=raw,if=none,id=disk{number}");
            qemu.args(["-drive", &drive]);
            let device = format!("virtio-blk-pci,drive=disk{number},bootindex={number}");
            qemu.args(["-device", &device]);
        }
        // Without its ROM, which the firmware would run and measure.
        qemu.args(["-netdev", "user,id=net"]);
        qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        qemu.args(["-serial", &format!("file:{}", console.display())]);
        qemu.args([
            "-chardev",
            "stdio,id=commands,signal=off",
            "-serial",
            "chardev:commands",
        ]);
        qemu.stdin(Stdio::piped()).stdout(Stdio::piped());
        let errors = folder.join("qemu.log");
        let errors = fs::File::create(&errors).map_err(|source| at(&errors, source))?;
        let started = Instant::now();
        let failed = |what: String| GuestError::Guest {
            what,
            console: String::new(),
        };
        qemu.stderr(errors);
        let mut qemu =
            mortal::spawn(qemu).map_err(|error| failed(format!("does not start: {error}")))?;
        let (Some(input), Some(output)) = (qemu.stdin.take(), qemu.stdout.take()) else {
            return Err(failed("has no serial line".to_owned()));
        };
        let mut guest = Self {
            qemu,
            input,
            lines: lines(output),
            console,
            booted_in: Duration::ZERO,
            greeting: String::new(),
            _tpm: tpm,
            _one: one,
        };
        // The firmware writes to the same line.
        let (_, greeting) = guest.until("GUEST-READY ", BOOT)?;
        guest.booted_in = started.elapsed();
        guest.greeting = greeting;
        Ok(guest)
    }

    /// Has the guest's shell run one line, and waits until it is done. What goes on in the background has to
    /// write elsewhere.
    ///
    /// # Errors
    /// When it is not done within `patience`: with the end of the guest's console.
    pub fn run(&mut self, line: &str, patience: Duration) -> Result<Ran, GuestError> {
        let written = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        if let Err(error) = written {
            return Err(self.failed(format!("takes no commands: {error}")));
        }
        let (output, status) = self.until("GUEST-DONE ", patience)?;
        Ok(Ran {
            status: status.parse().unwrap_or(-1),
            output,
        })
    }

    /// What kernel and firmware wrote.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything up to the line with `mark`, and what stands behind the mark.
    fn until(&self, mark: &str, patience: Duration) -> Result<(String, String), GuestError> {
        let limit = Instant::now() + patience;
        let mut before = String::new();
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some((text, behind)) = line.split_once(mark) {
                        before.push_str(text);
                        return Ok((before, behind.to_owned()));
                    }
                    before.push_str(&line);
                    before.push('\n');
                }
                Err(RecvTimeoutError::Timeout) => {
                    let what = format!("did not come to {mark:?} in {patience:?}; {before}");
                    return Err(self.failed(what));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed(format!("ended before {mark:?}; {before}")));
                }
            }
        }
    }

    fn failed(&self, what: String) -> GuestError {
        let console = self.console();
        let from = console.len().saturating_sub(SHOWN);
        let from = (from..=console.len()).find(|at| console.is_char_boundary(*at));
        let shown = from.and_then(|from| console.get(from..));
        GuestError::Guest {
            what,
            console: shown.unwrap_or_default().to_owned(),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Its power is cut. Already gone is as good.
        let _gone = self.qemu.kill();
        let _gone = self.qemu.wait();
    }
}

/// Lines as they come, until the other side is closed. Firmware writes what is no text.
fn lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line);
            if sender
                .send(text.trim_end_matches(['\r', '\n']).to_owned())
                .is_err()
            {
                return;
            }
            line.clear();
        }
    });
    receiver
}
