//! Texts in slices: however often they are interrupted, and whatever was read before, they are the same.

use finetuned::domain::serving::{Finish, Generate, Piece, Sampling};
use finetuned_engine::generate::{Author, Generation, Memory};
use finetuned_engine::models::read_config;
use finetuned_engine::models::text::{CausalLm, TextConfig};
use finetuned_engine::params::{self, Placement};
use finetuned_engine::policy::NOTHING;
use finetuned_engine::text::{TextTokenizer, UNCUT};
use finetuned_engine::weights::Weights;
use tch::Kind;

use super::support::{golden_path, test_device};

struct Model {
    model: CausalLm,
    tokenizer: TextTokenizer,
}

impl Model {
    fn tiny() -> Self {
        let folder = golden_path("tiny-llama");
        let config = TextConfig::parse(&read_config(&folder).unwrap()).unwrap();
        let weights = Weights::open(&folder, config.base_prefix()).unwrap();
        let placement = Placement { policy: &NOTHING, ..Placement::new(test_device(), Kind::Float, 0) };
        let (model, ..) = params::build(&weights, placement, |root| CausalLm::new(root, &config)).unwrap();
        Self { model, tokenizer: TextTokenizer::open(&folder, UNCUT, config.vocab_size()).unwrap() }
    }

    fn author<'m>(&'m self, ends: &'m [u32]) -> Author<'m> {
        Author { model: &self.model, tokenizer: &self.tokenizer, ends, number: 0 }
    }

    /// The text of `asked`, which pauses after every `slice` pieces, and the pieces that it came in.
    fn write(&self, memory: &mut Memory, mut asked: Generate, slice: usize, ends: &[u32]) -> (Vec<Piece>, Finish) {
        let _guard = tch::no_grad_guard();
        let mut pieces = Vec::new();
        loop {
            let mut generation = Generation::begin(self.author(ends), memory, &asked).unwrap();
            for _ in 0..slice {
                pieces.extend(generation.next_piece(&mut || {}).unwrap());
                if let Some(finish) = generation.finish() {
                    return (pieces, finish);
                }
            }
            asked.written = generation.written().to_vec();
            generation.leave(memory);
        }
    }
}

fn asked(prompt: &[u32], sampling: Sampling, stop: &[&str], most: usize) -> Generate {
    let stop = stop.iter().map(|&stop| stop.to_owned()).collect();
    Generate { prompt: prompt.to_vec(), written: Vec::new(), sampling, stop, most }
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

fn tokens(pieces: &[Piece]) -> Vec<u32> {
    pieces.iter().filter_map(|piece| Some(piece.token.as_ref()?.id)).collect()
}

#[test]
fn slices_and_memory_change_nothing() {
    let model = Model::tiny();
    for sampling in
        [Sampling::GREEDY, Sampling { temperature: 1.5, seed: 7, presence_penalty: 0.5, ..Sampling::GREEDY }]
    {
        let asked = asked(&[5, 9, 40, 12, 7], sampling, &[], 40);
        let (whole, finish) = model.write(&mut Memory::default(), asked.clone(), usize::MAX, &[]);
        assert_eq!((tokens(&whole).len(), finish), (40, Finish::Length));
        let mut memory = Memory::default();
        for slice in [1, 3, 7] {
            assert_eq!(model.write(&mut memory, asked.clone(), slice, &[]).0, whole, "slices of {slice}");
        }
        // Others that begin alike in between.
        let other = super::generation::asked(&[5, 9, 40, 12, 8], Sampling::GREEDY, &[], 9);
        let alone = model.write(&mut Memory::default(), other.clone(), usize::MAX, &[]).0;
        assert_eq!(model.write(&mut memory, other, 2, &[]).0, alone);
        assert_eq!(model.write(&mut memory, asked, usize::MAX, &[]).0, whole);
    }
}

#[test]
fn a_token_or_a_text_ends_a_text_and_is_no_part_of_it() {
    let model = Model::tiny();
    let sampling = Sampling { temperature: 2.0, seed: 3, ..Sampling::GREEDY };
    let all = asked(&[5, 9, 40], sampling, &[], 60);
    let (pieces, _) = model.write(&mut Memory::default(), all.clone(), usize::MAX, &[]);
    let (ids, whole) = (tokens(&pieces), text(&pieces));
    let end = ids[20];
    let first = ids.iter().position(|&id| id == end).unwrap();
    let (cut, finish) = model.write(&mut Memory::default(), all.clone(), 4, &[end]);
    assert_eq!((tokens(&cut), finish), (ids[..first].to_vec(), Finish::Stop));

    let middle = whole.char_indices().map(|(at, _)| at).nth(whole.chars().count() / 2).unwrap();
    let stop: String = whole[middle..].chars().take(3).collect();
    let expected = &whole[..whole.find(&stop).unwrap()];
    for slice in [1, usize::MAX] {
        let asked = Generate { stop: vec![stop.clone()], ..all.clone() };
        let (cut, finish) = model.write(&mut Memory::default(), asked, slice, &[]);
        assert_eq!((text(&cut).as_str(), finish), (expected, Finish::Stop), "ends at {stop:?}");
    }
}

#[test]
fn probabilities_are_told_where_they_are_wanted() {
    let model = Model::tiny();
    let greedy = |top| asked(&[5, 9, 40], Sampling { top_logprobs: top, ..Sampling::GREEDY }, &[], 5);
    let (pieces, _) = model.write(&mut Memory::default(), greedy(Some(3)), usize::MAX, &[]);
    for piece in &pieces {
        let token = piece.token.as_ref().unwrap();
        let likely = token.likely.as_ref().unwrap();
        assert_eq!((token.top.len(), &token.top[0]), (3, likely), "the likeliest was taken");
        assert!(likely.logprob < 0.0 && token.top[2].logprob <= token.top[1].logprob);
    }
    let (pieces, _) = model.write(&mut Memory::default(), greedy(None), usize::MAX, &[]);
    assert!(pieces.iter().all(|piece| piece.token.as_ref().unwrap().likely.is_none()));
}

#[test]
fn a_prompt_without_tokens_is_refused() {
    let model = Model::tiny();
    let begun = Generation::begin(model.author(&[]), &mut Memory::default(), &asked(&[], Sampling::GREEDY, &[], 5));
    assert!(begun.is_err());
}
