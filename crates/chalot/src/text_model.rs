//! A model with everything that turns text into text.
use std::{path::Path, sync::Arc};

use chalot_model::{
    EngineOptions, Fingerprint, KvPool, KvPoolOptions, LoadOptions, Model, PrefetchOptions, Prefetcher,
    RecommendedSampling, SequenceOptions, Source, SourceKind, WeightsAs,
};
use chalot_tensor::{Packing, exec::Exec};
use chalot_tokenizer::{Specials, Tokenizer};

use crate::{
    builtin::{BUILTIN_NAME, builtin},
    error::Error,
    hub,
    session::Session,
    template::ChatTemplate,
    vocabulary,
};

/// What may be chosen when a model is opened.
#[derive(Clone, Copy, Default)]
pub struct OpenOptions<'a> {
    /// How the weights are held in memory.
    pub weights: WeightsAs,
    /// A tokenizer file to use instead of the model's own.
    pub tokenizer: Option<&'a Path>,
    /// Bytes that the keys and values of all its texts together may take; `None`: what the system gives.
    pub kv_budget: Option<usize>,
    /// How ternary weights are packed that come from a file of another program: two bits a weight by default. A native file
    /// keeps its own packing.
    pub packing: Option<Packing>,
    /// How its texts are computed.
    pub engine: EngineOptions,
    /// Reads the files into memory instead of mapping them.
    pub no_mmap: bool,
    /// Reads the weights of a native file ahead of their use, within a budget of memory, if there is one; `None` leaves them to
    /// the system.
    pub prefetch: Option<PrefetchOptions>,
    /// Told the bytes loaded and the bytes in all.
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

/// The weights of a model, its tokenizer and its chat template.
#[derive(Debug)]
pub struct TextModel {
    /// The weights.
    pub model: Arc<Model>,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// `None`: neither a template nor the tokens of ChatML; the model continues text.
    pub template: Option<ChatTemplate>,
    /// What its makers recommend.
    pub sampling: RecommendedSampling,
    exec: Exec,
    pool: KvPool,
    engine: EngineOptions,
    prefetcher: Option<Arc<Prefetcher>>,
}

impl TextModel {
    /// Opens a `.gguf` file, a Hugging Face folder or a llama2.c file; its products are computed on `exec`.
    ///
    /// # Errors
    /// [`Error`] names the file, what is wrong with it and what to do.
    pub fn open(path: &Path, exec: &Exec, options: &OpenOptions) -> Result<Self, Error> {
        let source = if options.no_mmap { Source::read(path)? } else { Source::open(path)? };
        Self::load(&source, exec, options)
    }

    /// The model that ships in the binary.
    ///
    /// # Errors
    /// Only those of `options` ([`OpenOptions::tokenizer`] may name any file).
    pub fn builtin(exec: &Exec, options: &OpenOptions) -> Result<Self, Error> {
        let source = Source::from_static(builtin(), BUILTIN_NAME)?;
        Self::load(&source, exec, options)
    }

    fn load(source: &Source, exec: &Exec, options: &OpenOptions) -> Result<Self, Error> {
        let name = source.file();
        let vocab_size = source.config()?.vocab_size;
        // The small things first: a missing tokenizer must not cost the time to load the weights.
        let tokenizer = match options.tokenizer {
            Some(path) => vocabulary::read_tokenizer(path, Some(vocab_size))?,
            None => tokenizer_of(source)?,
        };
        if tokenizer.vocab_size() > vocab_size {
            return Err(Error::Vocabulary {
                tokenizer: options.tokenizer.map_or(name.into(), |path| path.display().to_string()),
                tokens: tokenizer.vocab_size(),
                model: name.into(),
                rows: vocab_size,
            });
        }
        let template = template_of(source, &tokenizer)?;
        let packing = options.packing.filter(|_| source.kind() != SourceKind::Native);
        let load = LoadOptions { weights: options.weights, packing, progress: options.progress };
        let model = Arc::new(source.load(exec, &load)?);
        let pool = KvPool::new(KvPoolOptions { budget: options.kv_budget, share: true, keep: 0 });
        let prefetcher =
            options.prefetch.map(|options| Prefetcher::of_source(&model, source, options)).transpose()?;
        Ok(Self {
            model,
            tokenizer,
            template,
            sampling: sampling_of(source)?,
            exec: exec.clone(),
            pool,
            engine: options.engine,
            prefetcher: prefetcher.map(Arc::new),
        })
    }

    /// The tokens of a prompt: BOS where the tokenizer wants it, then the text. With [`Specials::Parse`], special tokens
    /// may stand in the text, and a BOS that stands there already is not doubled. An empty text is BOS alone.
    pub fn prompt(&self, text: &str, specials: Specials) -> Vec<u32> {
        let mut tokens = self.tokenizer.encode(text, specials);
        if let Some(bos) = self.tokenizer.bos()
            && (self.tokenizer.add_bos() || tokens.is_empty())
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// A new, empty text.
    ///
    /// # Errors
    /// [`Error::Engine`] when the context asked for is not one the model was made for.
    pub fn session(&self, options: SequenceOptions) -> Result<Session, Error> {
        Session::new(self, options)
    }

    /// The text that [`Session::save`] left in a file, and the note beside it.
    ///
    /// # Errors
    /// [`Error::Cache`] when the file is damaged, of another model, or does not fit `options` or the budget.
    pub fn restore(&self, path: &Path, options: SequenceOptions) -> Result<(Session, Vec<u8>), Error> {
        Session::restore(self, path, options)
    }

    /// The memory that the keys and values of its texts share. Texts with equal beginnings share these too.
    pub fn pool(&self) -> &KvPool {
        &self.pool
    }

    /// What tells this model from others; reads some pages of every matrix.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.model)
    }

    /// The instructions and the threads that it computes with.
    pub fn exec(&self) -> &Exec {
        &self.exec
    }

    /// What reads its weights ahead of their use, if that was asked for.
    pub fn prefetcher(&self) -> Option<&Arc<Prefetcher>> {
        self.prefetcher.as_ref()
    }

    /// How its texts are computed.
    pub fn engine_options(&self) -> EngineOptions {
        self.engine
    }
}

/// The tokenizer that came with the model.
///
/// # Errors
/// There is none, or it is damaged.
pub fn tokenizer_of(source: &Source) -> Result<Tokenizer, Error> {
    let file = source.file();
    if let Some(folder) = source.folder() {
        return hub::Folder::open(folder)?.tokenizer();
    }
    if let (SourceKind::Llama2c, Some(path)) = (source.kind(), source.path()) {
        return vocabulary::beside(path, source.config()?.vocab_size);
    }
    match source.gguf().map(|gguf| vocabulary::vocab_of(&gguf.metadata)).transpose()?.flatten() {
        Some(vocab) => Ok(Tokenizer::from_gguf(file, vocab)?),
        None => Err(Error::NoTokenizer { file: file.into(), looked_for: "the keys tokenizer.*".into() }),
    }
}

/// The Jinja source of the chat template that came with the model, if any.
///
/// # Errors
/// A file or key that should hold it is damaged.
pub fn template_source(source: &Source) -> Result<Option<String>, Error> {
    if let Some(folder) = source.folder() {
        return hub::Folder::open(folder)?.chat_template();
    }
    match source.gguf() {
        Some(gguf) => Ok(gguf.metadata.str("tokenizer.chat_template")?.map(str::to_owned)),
        None => Ok(None),
    }
}

/// The sampling that the model's files recommend.
///
/// # Errors
/// A file that should hold it is damaged.
pub fn sampling_of(source: &Source) -> Result<RecommendedSampling, Error> {
    match (source.folder(), source.gguf()) {
        (Some(folder), _) => Ok(hub::Folder::open(folder)?.sampling()),
        (None, Some(gguf)) => Ok(RecommendedSampling::from_gguf(&gguf.metadata)),
        (None, None) => Ok(RecommendedSampling::default()),
    }
}

fn template_of(source: &Source, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, Error> {
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
    let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
    match template_source(source)? {
        Some(template) => Ok(Some(ChatTemplate::new(source.file(), &template, &bos, &eos)?)),
        None if ["<|im_start|>", "<|im_end|>"].iter().all(|token| tokenizer.id_of(token).is_some()) => {
            Ok(Some(ChatTemplate::chatml(&bos, &eos)?))
        }
        None => Ok(None),
    }
}

/// The tokenizer of the built-in model.
///
/// # Errors
/// None with the file that ships.
pub fn builtin_tokenizer() -> Result<Tokenizer, Error> {
    tokenizer_of(&Source::from_static(builtin(), BUILTIN_NAME)?)
}
