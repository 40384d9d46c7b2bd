//! Text that comes from a file or through a pipe, and the wish to stop.
use std::{
    fs, io,
    io::{IsTerminal, Read},
    path::Path,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;

/// The bytes of a file; `-` is stdin.
pub fn read_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        read_stdin_bytes()
    } else {
        fs::read(path).with_context(|| path.display().to_string())
    }
}

/// All of stdin.
pub fn read_stdin_bytes() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).context("stdin")?;
    Ok(bytes)
}

/// The text of a file; `-` is stdin.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    utf8(path, read_bytes(path)?)
}

/// All of stdin, as text.
pub fn read_stdin() -> anyhow::Result<String> {
    utf8(Path::new("stdin"), read_stdin_bytes()?)
}

fn utf8(path: &Path, bytes: Vec<u8>) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{}: byte {at} is not UTF-8; convert the text to UTF-8 first", path.display())
    })
}

/// Whether somebody hands us something on stdin: a pipe or a file, not a terminal and not `/dev/null`.
///
/// Sockets and unknown devices do not count: services start programs with such a stdin that nobody ever writes to, and
/// reading it would wait for ever.
pub fn stdin_is_fed() -> bool {
    if io::stdin().is_terminal() {
        return false;
    }
    #[cfg(unix)]
    {
        use std::os::{fd::AsFd, unix::fs::FileTypeExt};
        let Ok(descriptor) = io::stdin().as_fd().try_clone_to_owned() else { return false };
        let Ok(kind) = fs::File::from(descriptor).metadata().map(|metadata| metadata.file_type()) else {
            return false;
        };
        kind.is_fifo() || kind.is_file()
    }
    #[cfg(not(unix))]
    true
}

static STOP: AtomicBool = AtomicBool::new(false);

/// From here on, Ctrl-C asks generation to stop; a second one ends the process, should the first not be heard.
pub fn catch_interrupts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Without a handler Ctrl-C ends the process at once, which is no harm.
        let _ = ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
    });
}

/// Whether Ctrl-C was pressed.
pub fn interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Forgets a Ctrl-C that was obeyed.
pub fn clear_interrupt() {
    STOP.store(false, Ordering::Relaxed);
}
