use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut packer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// A text in several members or frames, as appending to an archive makes them.
fn in_two(bytes: &[u8], pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (left, right) = bytes.split_at(bytes.len() / 2);
    [pack(left), pack(right)].concat()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn read(path: &Path, options: &InputOptions) -> Result<Vec<String>, InputError> {
    Texts::new([path], options.clone()).collect()
}

fn refused(path: &Path, parts: &[&str]) {
    let error = read(path, &InputOptions::default()).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn plain_texts_with_a_separator() {
    let folder = Folder::new();
    let separator = "<|endoftext|>";
    let long = "été 日本\n".repeat(150_000);
    let texts = ["one\n", "two\r\nlines", &long, "<|endoftex", "last"];
    let whole = texts.join(separator);
    let options = InputOptions { separator: Some(separator.into()), ..InputOptions::default() };
    for (name, bytes) in [
        ("a.txt", whole.clone().into_bytes()),
        ("a.txt.gz", in_two(whole.as_bytes(), gzip)),
        ("a.txt.zst", in_two(whole.as_bytes(), zstd)),
        ("a.txt.xz", in_two(whole.as_bytes(), xz)),
        // The name does not matter.
        ("b", zstd(whole.as_bytes())),
    ] {
        assert!(read(&folder.file(name, bytes), &options).unwrap() == texts, "{name}");
    }
    let doubled = folder.file("c.txt", format!("{separator}x{separator}{separator}y{separator}"));
    assert_eq!(read(&doubled, &options).unwrap(), ["x", "y"]);
    assert_eq!(read(&folder.file("d.txt", ""), &options).unwrap(), [""; 0]);
    let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3], &zstd(b"text")[..]].concat();
    assert_eq!(read(&folder.file("e.zst", skippable), &options).unwrap(), ["text"]);
}

#[test]
fn long_texts_in_parts() {
    let folder = Folder::new();
    let text = "some words of 日本 and été\n".repeat(200_000);
    let path = folder.file("long.txt", &text);
    for separator in [None, Some("|||")] {
        let options =
            InputOptions { cut: true, separator: separator.map(String::from), ..InputOptions::default() };
        let parts = read(&path, &options).unwrap();
        assert!(parts.len() >= 5 && parts.iter().all(|part| part.len() <= 3 << 20), "{}", parts.len());
        assert!(parts.concat() == text);
        assert!(parts[1..].iter().all(|part| part.starts_with([' ', '\n'])));
    }
    // A separator that a cut might fall into.
    let joined = ["a".repeat((1 << 20) - 3), "b c ".repeat(1 << 19), "d".into()].join("e f");
    let path = folder.file("joined.txt", &joined);
    let options = InputOptions { cut: true, separator: Some("e f".into()), ..InputOptions::default() };
    let parts = read(&path, &options).unwrap();
    assert!(parts.concat() == joined.replace("e f", ""));
    assert!(InputOptions::can_cut(&Pattern::Llama3) && InputOptions::can_cut(&Pattern::Gpt2));
    assert!(!InputOptions::can_cut(&Pattern::Regex(r"\w+".into())));
}

#[test]
fn json_lines() {
    let folder = Folder::new();
    let lines = "{\"id\": 1, \"text\": \"plain\"}\n\n  {\"text\":\"es\\\"caped\\n\\u00e9\", \"more\": [{\"text\": 1}]}\r\n{\"text\": \"no line break\"}";
    let texts = ["plain", "es\"caped\né", "no line break"];
    let options = InputOptions::default();
    assert_eq!(read(&folder.file("a.jsonl", lines), &options).unwrap(), texts);
    assert_eq!(read(&folder.file("a.ndjson.gz", gzip(lines.as_bytes())), &options).unwrap(), texts);
    let ids = InputOptions { field: "id".into(), ..options.clone() };
    let error = read(&folder.file("a.jsonl", lines), &ids).unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("a string"), "{error}");
    let named = InputOptions { kind: Some(Kind::JsonLines), ..options };
    assert_eq!(read(&folder.file("a.txt", lines), &named).unwrap(), texts);
    let many: String = (0..50_000).map(|n| format!("{{\"text\": \"{n}\"}}\n")).collect();
    assert_eq!(read(&folder.file("many.jsonl", many), &named).unwrap().len(), 50_000);
}

#[test]
fn bad_places_are_named() {
    let folder = Folder::new();
    refused(&folder.file("a.txt", b"one\ntwo\xff"), &["a.txt", "line 2", "UTF-8", "iconv"]);
    refused(
        &folder.file("b.jsonl", "{\"text\": \"a\"}\n\n{\"text\": }\n"),
        &["b.jsonl", "line 3", "mend or remove"],
    );
    refused(&folder.file("c.jsonl", "{\"txt\": \"a\"}\n"), &["c.jsonl", "line 1", "no field \"text\""]);
    refused(&folder.file("d.jsonl", b"{\"text\": \"\xff\"}\n"), &["d.jsonl", "line 1", "UTF-8"]);
    refused(&folder.file("e.jsonl", "[1]\n"), &["e.jsonl", "line 1", "an object"]);
    refused(&folder.0.path().join("missing.txt"), &["missing.txt", "No such file"]);
    let text = "a text that is long enough to be cut off somewhere in its middle".repeat(50);
    for (name, kind, pack) in
        [("f.gz", "gzip", gzip as fn(&[u8]) -> _), ("g.zst", "zstd", zstd), ("h.xz", "xz", xz)]
    {
        let packed = pack(text.as_bytes());
        for len in [6, packed.len() / 2, packed.len() - 1] {
            refused(&folder.file(name, &packed[..len]), &[name, kind, "again"]);
        }
        let mut changed = packed.clone();
        changed[packed.len() / 2] ^= 0x55;
        // Whatever it decodes to, nothing panics.
        let _ = read(&folder.file(name, &changed), &InputOptions::default());
    }
    // The first error ends it.
    let good = folder.file("good.txt", "good");
    let bad = folder.file("bad.txt", b"\xff");
    let mut texts = Texts::new([&bad, &good], InputOptions::default());
    assert!(texts.next().unwrap().is_err() && texts.next().is_none());
    let mut texts = Texts::new([&good, &bad, &good], InputOptions::default());
    assert!(texts.next().unwrap().is_ok() && texts.next().unwrap().is_err() && texts.next().is_none());
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::sync::Arc;

    use ::parquet::basic::Compression;
    use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::*;

    fn write(path: &Path, compression: Compression, groups: &[&[Option<&str>]]) {
        let schema = "message rows { required int64 id; optional binary text (utf8); }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut writer =
            SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, properties).unwrap();
        for rows in groups {
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let ids: Vec<i64> = (0..rows.len() as i64).collect();
            column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
            let texts: Vec<ByteArray> = rows.iter().flatten().map(|text| ByteArray::from(*text)).collect();
            column.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[test]
    fn a_column_of_texts() {
        let folder = Folder::new();
        let many: Vec<String> = (0..1000).map(|n| format!("text {n} été")).collect();
        let many: Vec<Option<&str>> = many.iter().map(|text| Some(text.as_str())).collect();
        let groups: [&[Option<&str>]; 3] = [&[Some("one"), None, Some("two")], &many, &[None]];
        let expected: Vec<&str> = groups.into_iter().flatten().flatten().copied().collect();
        let path = folder.0.path().join("a.parquet");
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::BROTLI(Default::default()),
            Compression::LZ4_RAW,
            Compression::ZSTD(Default::default()),
        ] {
            write(&path, compression, &groups);
            assert_eq!(read(&path, &InputOptions::default()).unwrap(), expected, "{compression}");
        }
        let error = |field: &str| {
            read(&path, &InputOptions { field: field.into(), ..InputOptions::default() })
                .unwrap_err()
                .to_string()
        };
        assert!(
            error("content").contains("not there") && error("content").contains("text"),
            "{}",
            error("content")
        );
        assert!(error("id").contains("not one text a row"), "{}", error("id"));
    }

    #[test]
    fn damage() {
        let folder = Folder::new();
        let path = folder.0.path().join("a.parquet");
        write(&path, Compression::SNAPPY, &[&[Some("one text"), Some("another text")]]);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            refused(&folder.file("b.parquet", &whole[..len]), &["b.parquet", "parquet data is damaged"]);
        }
        refused(&folder.file("c.parquet", "no parquet at all"), &["c.parquet", "parquet data is damaged"]);
    }
}
