//! What a chat template may call.
use minijinja::{
    Environment, Error, ErrorKind, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, Rest},
};
use serde::Serialize;

/// Steps that a template may take. A conversation of a thousand messages needs some ten thousand.
const FUEL: u64 = 2_000_000;

/// The environment in which Hugging Face renders chat templates (`apply_chat_template` of transformers).
pub fn hugging_face() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    environment
}

/// `source` without the `{% generation %}` tags that mark the assistant's words for training: they print nothing, and
/// Jinja itself does not know them.
pub fn plain_jinja(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let inside = &rest[start + 2..start + length];
        let name = inside.trim_matches(['-', '+']).trim();
        let stand_in = match name {
            "generation" => Some(inside.replace(name, "if true")),
            "endgeneration" => Some(inside.replace(name, "endif")),
            _ => None,
        };
        out.push_str(&rest[..start + 2]);
        out.push_str(stand_in.as_deref().unwrap_or(inside));
        out.push_str("%}");
        rest = &rest[start + length + 2..];
    }
    out + rest
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::ZonedDateTime::now()).map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now('{format}'): {error}"))
    })
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`. Its other arguments are accepted where they ask for
/// what happens anyway.
fn to_json(value: &Value, _positional: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let failed =
        |error: serde_json::Error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}"));
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let spaces = vec![b' '; width.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value
                .serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
                .map_err(failed)?;
        }
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(failed)?
        }
    }
    let text =
        String::from_utf8(out).map_err(|_| Error::new(ErrorKind::InvalidOperation, "tojson: not text"))?;
    Ok(Value::from_safe_string(text))
}

/// JSON on one line with a space after commas and colons, as Python writes it.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}
