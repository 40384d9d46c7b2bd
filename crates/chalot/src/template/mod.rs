//! Chat templates: from the messages of a conversation to the text that a model was trained to answer.
//!
//! A template is a Jinja program that came with the model. It is run in a sandbox of minijinja: no files, no clock but
//! `strftime_now`, a bounded number of steps. The environment is the one that Hugging Face templates expect
//! (`trim_blocks`, `lstrip_blocks`, Python's string methods, `raise_exception`, `tojson` without HTML escapes).
mod environment;

use minijinja::{Environment, Value, context, value::Serde};
use serde::{Deserialize, Serialize};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// "system", "user" or "assistant".
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A template that cannot be read, or that refuses a conversation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is not valid Jinja, or uses what this environment does not have.
    #[error(
        "the chat template of {model} cannot be read: {reason}; give another with the model, or use 'chalot run'"
    )]
    Parse {
        /// The model.
        model: String,
        /// What is wrong, with the line.
        reason: String,
    },
    /// The template called `raise_exception`, or failed on these messages.
    #[error("the chat template refuses these messages: {reason}")]
    Render {
        /// The template's own words, or what failed.
        reason: String,
    },
}

/// Where a template came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateOrigin {
    /// It came with the model.
    Model,
    /// The model has none, but its vocabulary has ChatML's tokens.
    ChatMl,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    origin: TemplateOrigin,
    bos: String,
    eos: String,
}

/// The format of models that were trained on `<|im_start|>` and `<|im_end|>`.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                      {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles the `source` that came with `model` (a name for messages). `bos` and `eos` are the texts of the tokens.
    ///
    /// # Errors
    /// [`TemplateError::Parse`].
    pub fn new(model: &str, source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        Self::compile(model, environment::plain_jinja(source), TemplateOrigin::Model, bos, eos)
    }

    /// ChatML, for models that know its tokens and bring no template.
    pub fn chatml(bos: &str, eos: &str) -> Result<Self, TemplateError> {
        Self::compile("ChatML", CHATML.into(), TemplateOrigin::ChatMl, bos, eos)
    }

    fn compile(
        model: &str,
        source: String,
        origin: TemplateOrigin,
        bos: &str,
        eos: &str,
    ) -> Result<Self, TemplateError> {
        let mut environment = environment::hugging_face();
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| TemplateError::Parse { model: model.into(), reason: reason(&error) })?;
        Ok(Self { environment, origin, bos: bos.into(), eos: eos.into() })
    }

    /// Where it came from.
    pub fn origin(&self) -> TemplateOrigin {
        self.origin
    }

    /// The text of `messages`; with `answer`, followed by the beginning of the assistant's turn.
    ///
    /// # Errors
    /// [`TemplateError::Render`].
    pub fn render(&self, messages: &[Message], answer: bool) -> Result<String, TemplateError> {
        let values = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => answer,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(values))
            .map_err(|error| TemplateError::Render { reason: reason(&error) })
    }
}

/// The innermost cause, in one line: a template's own `raise_exception` is what a user can act on.
fn reason(error: &minijinja::Error) -> String {
    let text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("{}{line}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Vec<Message> {
        vec![
            Message::new("user", "Hi <there> & \"you\""),
            Message::new("assistant", "Hello."),
            Message::new("user", "Bye"),
        ]
    }

    fn render(source: &str) -> Result<String, TemplateError> {
        ChatTemplate::new("test", source, "<s>", "</s>")?.render(&conversation(), true)
    }

    #[test]
    fn chatml() {
        let text = ChatTemplate::chatml("", "").unwrap().render(&conversation(), true).unwrap();
        assert_eq!(
            text,
            "<|im_start|>user\nHi <there> & \"you\"<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n\
             <|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn blocks_are_trimmed_as_hugging_face_trims_them() {
        let text = render(
            "{{ bos_token }}\n  {% for m in messages %}\n{{ m['role'] | capitalize }}: {{ m.content.strip() }}{{ eos_token }}\n  {% endfor %}\n",
        );
        assert_eq!(
            text.unwrap(),
            "<s>\nUser: Hi <there> & \"you\"</s>\nAssistant: Hello.</s>\nUser: Bye</s>\n"
        );
    }

    #[test]
    fn python_methods_and_slices() {
        let source = "{% for m in messages[1:] %}{% if loop.first %}{{ m.content.upper().rstrip('.') }}{% continue %}{% endif %}\
                      {{ m.content.startswith('B') }}{{ 'x,y'.split(',')[-1] }}{% endfor %}";
        assert_eq!(render(source).unwrap(), "HELLOTruey");
    }

    #[test]
    fn tojson_writes_as_python_does() {
        assert_eq!(
            render("{{ messages[0] | tojson }}").unwrap(),
            r#"{"role": "user", "content": "Hi <there> & \"you\""}"#
        );
        assert_eq!(render("{{ [1, 'é'] | tojson(indent=2) }}").unwrap(), "[\n  1,\n  \"é\"\n]");
    }

    #[test]
    fn generation_blocks_are_transparent() {
        let source =
            "{% for m in messages %}{%- generation -%} {{ m.role }} {%- endgeneration %}{% endfor %}";
        assert_eq!(render(source).unwrap(), "userassistantuser");
    }

    #[test]
    fn the_date_can_be_asked_for() {
        let year: i32 = render("{{ strftime_now('%Y') }}").unwrap().parse().unwrap();
        assert!(year > 2000);
        assert!(render("{{ strftime_now('%!') }}").is_err());
    }

    #[test]
    fn a_refusal_keeps_the_templates_words() {
        let error = render("{{ raise_exception('System role not supported') }}").unwrap_err().to_string();
        assert!(error.contains("System role not supported"), "{error}");
    }

    #[test]
    fn damaged_and_endless_templates_are_errors() {
        let error = render("{% for m in %}").unwrap_err();
        assert!(matches!(error, TemplateError::Parse { .. }), "{error}");
        assert!(!error.to_string().contains('\n'));
        let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        assert!(matches!(render(endless), Err(TemplateError::Render { .. })));
        assert!(render("{{ 'x' * 100000000000 }}").is_err());
    }
}
