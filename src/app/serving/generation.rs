//! Texts to write: a process reads the prompts, and then writes one text after the other, in slices.

use std::time::Duration;

use tokio::sync::mpsc;

use super::busy;
use super::question::{Heard, Inquiry, Slice, unexpected};
use super::served::Failure;
use super::slices::SliceSize;
use crate::domain::error::{Error, Result};
use crate::domain::random::mix_all;
use crate::domain::serving::{Answered, Finish, Generate, Piece, Prompt, PromptTokens, Question, Refusal, Sampling};

/// Texts that are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The field of the request that prompts come from.
    pub field: &'static str,
    pub prompts: Vec<Prompt>,
    /// Texts for each prompt.
    pub choices: usize,
    pub sampling: Sampling,
    /// Texts that end a text and are no part of it.
    pub stop: Vec<String>,
    /// The most tokens of a text; None is as many as the model takes.
    pub most: Option<usize>,
}

/// What is told of the texts of a request, which are numbered prompt by prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The prompts were read, and have so many tokens each.
    Begun(Vec<usize>),
    Piece(usize, Piece),
    Ended(usize, Finish),
}

/// What is left to write.
pub(super) struct Generation {
    wanted: Wanted,
    read: Vec<PromptTokens>,
    /// The number of the text that is being written, and its tokens so far.
    number: usize,
    written: Vec<u32>,
    /// None once all was told.
    told: Option<mpsc::UnboundedSender<Result<Option<Told>>>>,
}

/// Texts as they are written. Once this is dropped, nobody wants them any more.
pub struct Texts {
    receiver: mpsc::UnboundedReceiver<Result<Option<Told>>>,
    patience: Duration,
}

impl Generation {
    pub(super) fn new(wanted: Wanted, patience: Duration) -> (Self, Texts) {
        // A text has a bounded number of tokens, so what waits here is bounded too.
        let (told, receiver) = mpsc::unbounded_channel();
        let generation = Self { wanted, read: Vec::new(), number: 0, written: Vec::new(), told: Some(told) };
        (generation, Texts { receiver, patience })
    }

    fn tell(&self, told: Option<Told>) {
        if let Some(sender) = &self.told {
            let _ = sender.send(Ok(told));
        }
    }

    /// Why a prompt cannot be gone on from.
    fn unfit(&self, prompt: &PromptTokens) -> Option<Error> {
        let (field, count, longest) = (self.wanted.field, prompt.ids.len(), prompt.longest);
        if count == 0 {
            return Some(Error::invalid(field, format!("{field} has no tokens; the model needs one at least.")));
        }
        (count >= longest).then(|| {
            let message = format!(
                "This model's maximum context length is {longest} tokens. However, your {field} resulted in {count} tokens, \
                 which leaves no room for an answer. Please reduce its length."
            );
            Error::invalid(field, message).code("context_length_exceeded")
        })
    }

    /// The text that is being written, once all prompts were read.
    fn generate(&self) -> Generate {
        let prompt = &self.read[self.number / self.wanted.choices];
        let room = prompt.longest.saturating_sub(prompt.ids.len());
        let seed = match self.number {
            0 => self.wanted.sampling.seed,
            number => mix_all(&[self.wanted.sampling.seed, number as u64]),
        };
        Generate {
            prompt: prompt.ids.clone(),
            written: self.written.clone(),
            sampling: Sampling { seed, ..self.wanted.sampling.clone() },
            stop: self.wanted.stop.clone(),
            most: self.wanted.most.map_or(room, |most| most.min(room)),
        }
    }
}

impl Inquiry for Generation {
    fn bytes(&self) -> usize {
        let ids = self.read.iter().map(|prompt| prompt.ids.len()).sum::<usize>() + self.written.len();
        self.wanted.prompts.iter().map(Prompt::bytes).sum::<usize>() + ids * size_of::<u32>()
    }

    fn is_abandoned(&self) -> bool {
        self.told.as_ref().is_none_or(mpsc::UnboundedSender::is_closed)
    }

    fn next(&mut self, _size: &SliceSize) -> Slice {
        let question = match self.wanted.prompts.get(self.read.len()) {
            Some(prompt) => Question::Read(prompt.clone()),
            None => Question::Generate(Box::new(self.generate())),
        };
        Slice { question, bytes: None }
    }

    fn hear(&mut self, answered: Answered) -> Result<Heard, Failure> {
        match answered {
            Answered::Tokens(prompt) if self.read.len() < self.wanted.prompts.len() => {
                if let Some(error) = self.unfit(&prompt) {
                    self.fail(error);
                    return Ok(Heard::All);
                }
                self.read.push(prompt);
                if self.read.len() == self.wanted.prompts.len() {
                    self.tell(Some(Told::Begun(self.read.iter().map(|prompt| prompt.ids.len()).collect())));
                }
                Ok(Heard::Slice)
            }
            Answered::Reading => {
                self.tell(None);
                Ok(Heard::Part)
            }
            Answered::Piece(piece) => {
                self.written.extend(piece.token.as_ref().map(|token| token.id));
                self.tell(Some(Told::Piece(self.number, piece)));
                Ok(Heard::Part)
            }
            Answered::Paused => Ok(Heard::Slice),
            Answered::Ended(finish) => {
                self.tell(Some(Told::Ended(self.number, finish)));
                self.written.clear();
                self.number += 1;
                if self.number < self.wanted.prompts.len() * self.wanted.choices {
                    return Ok(Heard::Slice);
                }
                self.told = None;
                Ok(Heard::All)
            }
            Answered::Error(Refusal { param: None, message }) => Err(Failure::Broken(message)),
            Answered::Error(refusal) => Err(Failure::Refused(refusal)),
            other @ (Answered::Output(_) | Answered::Tokens(_) | Answered::Done) => Err(unexpected(&other)),
        }
    }

    fn fail(&mut self, error: Error) {
        if let Some(sender) = self.told.take() {
            let _ = sender.send(Err(error));
        }
    }
}

impl Texts {
    /// What is told next; None once all texts have ended.
    ///
    /// # Errors
    /// The request is refused, it did not get on for too long, or no process could go on with it.
    pub async fn next(&mut self) -> Result<Option<Told>> {
        loop {
            match tokio::time::timeout(self.patience, self.receiver.recv()).await {
                Ok(Some(Ok(Some(told)))) => return Ok(Some(told)),
                Ok(Some(Ok(None))) => {}
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Ok(None),
                Err(_) => return Err(busy("The model did not come to this request in time.")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::question::{Heard, Inquiry};
    use super::super::slices::SliceSize;
    use super::{Generation, Texts, Told, Wanted};
    use crate::domain::error::ErrorKind;
    use crate::domain::serving::{Answered, Finish, Generate, Piece, Prompt, PromptTokens, Question, Sampling, Token};

    const PATIENCE: Duration = Duration::from_mins(1);

    fn wanted(prompts: &[&str], choices: usize) -> (Generation, Texts) {
        let prompts = prompts.iter().map(|&text| Prompt::Text(text.to_owned())).collect();
        let sampling = Sampling { seed: 9, ..Sampling::GREEDY };
        Generation::new(Wanted { field: "prompt", prompts, choices, sampling, stop: Vec::new(), most: None }, PATIENCE)
    }

    fn tokens(ids: &[u32]) -> Answered {
        Answered::Tokens(PromptTokens { ids: ids.to_vec(), longest: 8 })
    }

    fn piece(id: u32) -> Piece {
        Piece { text: id.to_string(), token: Some(Token { id, likely: None, top: Vec::new() }) }
    }

    fn next(generation: &mut Generation) -> Generate {
        match generation.next(&SliceSize::default()).question {
            Question::Generate(generate) => *generate,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn prompts_are_read_first_and_each_slice_tells_what_was_written() {
        let (mut generation, mut texts) = wanted(&["a", "b"], 2);
        for ids in [&[1][..], &[2, 3]] {
            assert!(matches!(generation.next(&SliceSize::default()).question, Question::Read(_)));
            assert_eq!(generation.hear(tokens(ids)).unwrap(), Heard::Slice);
        }
        assert_eq!(texts.next().await.unwrap(), Some(Told::Begun(vec![1, 2])));
        let mut seeds = Vec::new();
        for (number, prompt) in [&[1][..], &[1], &[2, 3], &[2, 3]].into_iter().enumerate() {
            let asked = next(&mut generation);
            assert_eq!((&asked.prompt[..], asked.written.len(), asked.most), (prompt, 0, 8 - prompt.len()));
            seeds.push(asked.sampling.seed);
            assert_eq!(generation.hear(Answered::Reading).unwrap(), Heard::Part);
            assert_eq!(generation.hear(Answered::Piece(piece(7))).unwrap(), Heard::Part);
            assert_eq!(generation.hear(Answered::Paused).unwrap(), Heard::Slice);
            assert_eq!(next(&mut generation).written, [7]);
            let heard = generation.hear(Answered::Ended(Finish::Stop)).unwrap();
            assert_eq!(heard, if number == 3 { Heard::All } else { Heard::Slice });
            assert_eq!(texts.next().await.unwrap(), Some(Told::Piece(number, piece(7))));
            assert_eq!(texts.next().await.unwrap(), Some(Told::Ended(number, Finish::Stop)));
        }
        assert_eq!(texts.next().await.unwrap(), None);
        assert_eq!(seeds[0], 9);
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 4, "each text has draws of its own");
    }

    #[tokio::test]
    async fn a_prompt_without_room_behind_it_is_refused() {
        for (ids, code, message) in [
            (&[][..], None, "prompt has no tokens"),
            (&[1; 8], Some("context_length_exceeded"), "resulted in 8 tokens"),
        ] {
            let (mut generation, mut texts) = wanted(&["a"], 1);
            assert_eq!(generation.hear(tokens(ids)).unwrap(), Heard::All);
            let error = texts.next().await.unwrap_err();
            assert_eq!((error.kind, error.code, error.param.as_deref()), (ErrorKind::Invalid, code, Some("prompt")));
            assert!(error.message.contains(message), "{}", error.message);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn texts_are_waited_for_as_long_as_they_get_on() {
        let (mut generation, mut texts) = wanted(&["a"], 1);
        let waiting = tokio::spawn(async move { (texts.next().await, texts.next().await) });
        generation.hear(tokens(&[1])).unwrap();
        for _ in 0..4 {
            tokio::time::sleep(PATIENCE * 3 / 4).await;
            generation.hear(Answered::Reading).unwrap();
        }
        assert!(!waiting.is_finished() && !generation.is_abandoned());
        tokio::time::sleep(PATIENCE * 2).await;
        let (begun, late) = waiting.await.unwrap();
        assert_eq!(begun.unwrap(), Some(Told::Begun(vec![1])));
        assert!(late.unwrap_err().message.contains("in time"));
        assert!(generation.is_abandoned(), "so that it is dropped");
    }
}
