//! What a recipe may not say, though its tables could be read.

use chalot_model::SamplingParams;

use super::Recipe;

/// Key, what was found, what to do.
type Wrong = (String, String, String);

impl Recipe {
    /// Refuses values that fit nothing.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let wrong = |key: &str, found: String, mend: &str| Err((key.into(), found, mend.into()));
        if self.data.texts.is_empty() {
            return wrong("data.texts", "no texts".into(), "name a file or a folder with [[data.texts]]");
        }
        if self.start.as_ref().is_some_and(|start| start.run.is_some() == start.model.is_some()) {
            return wrong("start", "none or both of the keys run and model".into(), "name one of them");
        }
        if let Err(error) = self.sampling.over(SamplingParams::default()).validate() {
            return wrong("sampling", error.to_string(), "lower or raise it, or leave it out");
        }
        let held_out = &self.data.held_out;
        let ways = usize::from(held_out.every.is_some())
            + usize::from(held_out.hash.is_some())
            + usize::from(!held_out.names.is_empty());
        if ways != 1 {
            return wrong(
                "data.held_out",
                format!("{ways} of the keys every, hash and names"),
                "say in one way which texts are held out",
            );
        }
        for (key, value) in [("every", held_out.every), ("hash", held_out.hash)] {
            if value.is_some_and(|value| value < 2) {
                return wrong(
                    &format!("data.held_out.{key}"),
                    format!("{}", value.unwrap_or(0)),
                    "hold out one text in 2 or more",
                );
            }
        }
        for (key, value) in [
            ("train.steps", self.train.steps),
            ("train.rows", self.train.rows as u64),
            ("train.context", self.train.context as u64),
            ("evaluate.every", self.evaluate.every),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.keep", self.checkpoint.keep as u64),
        ] {
            if value == 0 {
                return wrong(key, "0".into(), "it must be at least 1");
            }
        }
        let micro = self.train.micro_rows();
        let parts = self.train.rows.checked_div(micro).unwrap_or(0);
        if micro == 0 || !self.train.rows.is_multiple_of(micro) || !parts.is_power_of_two() {
            return wrong(
                "train.micro_rows",
                format!("{micro} of {} rows", self.train.rows),
                "train.rows must be train.micro_rows times a power of two",
            );
        }
        let objective = &self.objective;
        for (key, value) in [
            ("exit_share", objective.exit_share),
            ("exit_teacher", objective.exit_teacher),
            ("exit_rise", objective.exit_rise),
            ("layer_drop", objective.layer_drop),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return wrong(&format!("objective.{key}"), value.to_string(), "give a share, 0 to 1");
            }
        }
        for (key, value) in [
            ("exit_weight", objective.exit_weight),
            ("z_loss", objective.z_loss),
            ("router_z_loss", objective.router_z_loss),
            ("balance_loss", objective.balance_loss),
            ("balance_rate", objective.balance_rate),
        ] {
            if !(0.0..=100.0).contains(&value) {
                return wrong(
                    &format!("objective.{key}"),
                    value.to_string(),
                    "give a factor, 0 (without it) or more",
                );
            }
        }
        let optimizer = &self.optimizer;
        for (key, value) in [
            ("muon_rate", optimizer.muon_rate),
            ("adamw_rate", optimizer.adamw_rate),
            ("other_rate", optimizer.other_rate),
            ("weight_decay", optimizer.weight_decay),
            ("clip", optimizer.clip),
        ] {
            if !(0.0..=1000.0).contains(&value) {
                return wrong(&format!("optimizer.{key}"), value.to_string(), "give a number of 0 or more");
            }
        }
        for (key, value) in
            [("momentum", optimizer.momentum), ("beta1", optimizer.beta1), ("beta2", optimizer.beta2)]
        {
            if !(0.0..1.0).contains(&value) {
                return wrong(
                    &format!("optimizer.{key}"),
                    value.to_string(),
                    "give 0 or more and less than 1",
                );
            }
        }
        let schedule = &self.schedule;
        for (key, value) in [
            ("decay", schedule.decay),
            ("least", schedule.least),
            ("weight_decay_until", schedule.weight_decay_until),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return wrong(&format!("schedule.{key}"), value.to_string(), "give a share, 0 to 1");
            }
        }
        if let Some(context) = self.model.context.filter(|context| *context < self.train.context) {
            return wrong(
                "train.context",
                format!("{} tokens, and the model's context is {context}", self.train.context),
                "raise model.context or lower train.context",
            );
        }
        if !(self.train.spike >= 0.0 && self.train.spike.is_finite()) {
            return wrong("train.spike", self.train.spike.to_string(), "give nats, or 0 to never stop");
        }
        Ok(())
    }
}
