//! Event files, as TensorBoard reads them.
//!
//! A file is a row of records: the length (u64), a checksum of the length, the bytes, a checksum of the bytes, all
//! little-endian. The checksum is CRC-32C, rotated right by 15 bits plus `0xA282EAD8` ("masked"), so that it can be taken of
//! data that holds checksums. The bytes are a protobuf message `Event`, of which a few fields are enough:
//!
//! | message | fields |
//! |---|---|
//! | Event | 1 wall_time (double), 2 step (int64), 3 file_version (string), 5 summary, 7 session_log |
//! | Summary | 1 value, repeated |
//! | Summary.Value | 1 tag (string), 2 simple_value (float), 8 tensor, 9 metadata |
//! | SummaryMetadata, PluginData | 1 plugin_data; 1 plugin_name (string) |
//! | TensorProto | 1 dtype (7: string), 2 shape, 8 string_val |
//! | SessionLog | 1 status (1: start) |

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Record;

/// A file of events that is being written.
#[derive(Debug)]
pub struct EventFile(File);

impl EventFile {
    /// Begins a file in `folder`, which is made if it is not there. `step` steps have been done: what earlier files say of
    /// later ones does not count.
    ///
    /// # Errors
    /// Those of the system.
    pub fn create(folder: &Path, step: u64) -> io::Result<EventFile> {
        fs::create_dir_all(folder)?;
        // TensorBoard reads files in the order of their names.
        let seconds = seconds();
        let mut number = 0;
        let file = loop {
            let name = format!("events.out.tfevents.{:010}.chalot.{number:04}", seconds as u64);
            match File::create_new(folder.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                file => break file?,
            }
        };
        let mut events = EventFile(file);
        events.write(0, |event| event.bytes(3, b"brain.Event:2"))?;
        if step > 0 {
            events.write(step + 1, |event| event.message(7, |session| session.integer(1, 1)))?;
        }
        Ok(events)
    }

    /// Writes the figures of a record.
    ///
    /// # Errors
    /// Those of the system.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Start(_) => Ok(()),
            Record::Step(step) => {
                let experts = step.experts.as_ref();
                self.scalars(
                    step.step,
                    &[
                        ("train/loss", Some(step.loss)),
                        ("train/bits_per_byte", Some(step.bits_per_byte)),
                        ("train/exit_loss", step.exit_loss),
                        ("experts/most_loaded", experts.map(|load| load.most)),
                        ("experts/least_loaded", experts.map(|load| load.least)),
                        ("optimizer/learning_rate", Some(step.learning_rate)),
                        ("optimizer/gradient_norm", Some(step.gradient_norm)),
                        ("speed/tokens_per_second", Some(step.tokens_per_second)),
                    ],
                )
            }
            Record::HeldOut(held_out) => {
                self.scalars(
                    held_out.step,
                    &[
                        ("held_out/loss", Some(held_out.loss)),
                        ("held_out/bits_per_byte", Some(held_out.bits_per_byte)),
                        ("held_out/exit_bits_per_byte", held_out.exit_bits_per_byte),
                    ],
                )?;
                match &held_out.sample {
                    Some(sample) => self.text(held_out.step, "sample", sample),
                    None => Ok(()),
                }
            }
        }
    }

    fn scalars(&mut self, step: u64, values: &[(&str, Option<f64>)]) -> io::Result<()> {
        self.write(step, |event| {
            event.message(5, |summary| {
                for (tag, value) in values.iter().filter_map(|(tag, value)| Some((tag, (*value)?))) {
                    summary.message(1, |entry| {
                        entry.bytes(1, tag.as_bytes());
                        entry.float(2, value as f32);
                    });
                }
            });
        })
    }

    fn text(&mut self, step: u64, tag: &str, text: &str) -> io::Result<()> {
        self.write(step, |event| {
            event.message(5, |summary| {
                summary.message(1, |entry| {
                    entry.bytes(1, tag.as_bytes());
                    entry.message(8, |tensor| {
                        tensor.integer(1, 7);
                        tensor.message(2, |shape| shape.message(2, |dim| dim.integer(1, 1)));
                        tensor.bytes(8, text.as_bytes());
                    });
                    entry.message(9, |metadata| metadata.message(1, |plugin| plugin.bytes(1, b"text")));
                });
            });
        })
    }

    fn write(&mut self, step: u64, fill: impl FnOnce(&mut Message)) -> io::Result<()> {
        let mut event = Message::default();
        event.double(1, seconds());
        event.integer(2, step);
        fill(&mut event);
        self.0.write_all(&framed(&event.0))
    }
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A record of the file.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(&length).to_le_bytes());
    out.extend(bytes);
    out.extend(masked(bytes).to_le_bytes());
    out
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli), bit by bit: a few hundred bytes a step.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

/// A protobuf message in the making.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn messages() {
        let mut message = Message::default();
        message.integer(1, 150);
        message.message(2, |inner| inner.bytes(1, b"testing"));
        message.float(3, 1.0);
        assert_eq!(message.0, b"\x08\x96\x01\x12\x09\x0a\x07testing\x1d\x00\x00\x80\x3f");
        let framed = framed(&message.0);
        assert_eq!((framed.len(), framed[0]), (message.0.len() + 16, message.0.len() as u8));
    }
}
