//! Texts with `{{ … }}`, which name what an answer and its example have: OpenAI's `sample` and `item`, in the syntax of Jinja.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, context, filters};
use serde_json::Value;

use crate::domain::clip::clipped;

/// What an example of the file has.
const ITEM: &str = "item";

/// Steps that a text may take to be filled, and the bytes that it may have then.
const FUEL: u64 = 100_000;
const LONGEST: usize = 1 << 20;

/// A text to fill.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    /// What it names: `item.answer`.
    names: Vec<String>,
}

/// The one text of an environment.
const NAME: &str = "text";

impl Template {
    /// # Errors
    /// It is no such text, or names something else: what is wrong, in words for its owner.
    pub fn parse(text: &str) -> Result<Self, String> {
        bounded(text)?;
        let mut environment = plain();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
        environment.set_fuel(Some(FUEL));
        let read = environment.add_template_owned(NAME, text.to_owned());
        read.map_err(|error| format!("is no template: {}", told(&error)))?;
        let names = environment.get_template(NAME).map(|template| template.undeclared_variables(true));
        let mut names: Vec<String> = names.map_err(|error| told(&error))?.into_iter().collect();
        names.sort_unstable();
        let is_known = |name: &str| name == "sample.output_text" || name.split('.').next() == Some(ITEM);
        match names.iter().find(|name| !is_known(name)) {
            None => known(&environment).map(|()| Self { environment, names }),
            Some(name) => Err(format!(
                "names {{{{ {name} }}}}; there are {{{{ sample.output_text }}}}, what the model wrote, and {{{{ item }}}} with \
                 the fields of the example, as in {{{{ item.answer }}}}"
            )),
        }
    }

    /// The text for an answer to an example, which is a JSON object.
    ///
    /// # Errors
    /// It names what the example does not have, or fails otherwise.
    pub fn fill(&self, item: &Value, output_text: &str) -> Result<String, String> {
        let values = context! { item => Serde(item), sample => context! { output_text } };
        let template = self.environment.get_template(NAME).map_err(|error| told(&error))?;
        let mut filled = Filled(Vec::new());
        template.render_captured_to(values, &mut filled).map_err(|error| match error.kind() {
            ErrorKind::UndefinedError => format!("the example has no {}", self.missing(item).unwrap_or("such field")),
            ErrorKind::WriteFailure => format!("the text has more than {LONGEST} bytes once it is filled"),
            _ => told(&error),
        })?;
        String::from_utf8(filled.0).map_err(|error| error.to_string())
    }

    /// What it names and the example does not have.
    fn missing(&self, item: &Value) -> Option<&str> {
        let is_there = |name: &str| name.split('.').skip(1).try_fold(item, |inside, field| inside.get(field)).is_some();
        self.names.iter().map(String::as_str).find(|name| name.starts_with(ITEM) && !is_there(name))
    }
}

/// An environment with what makes no text much longer: the service itself fills some, of whoever has a key, and a few `replace` or
/// `join` one in the other make gigabytes of a small example.
fn plain() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("round", filters::round);
    environment.add_filter("string", filters::string);
    environment.add_filter("title", filters::title);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_test("defined", minijinja::tests::is_defined);
    environment.add_test("none", minijinja::tests::is_none);
    environment.add_test("undefined", minijinja::tests::is_undefined);
    environment
}

/// Statements that bind no names: with `set`, forty lines double a text forty times.
const STATEMENTS: [&str; 6] = ["for", "endfor", "if", "elif", "else", "endif"];

/// Refuses what can make a text much longer, without looking whether it does.
fn bounded(text: &str) -> Result<(), String> {
    for statement in text.split("{%").skip(1) {
        let word = statement.trim_start_matches(['-', '+']).trim_start();
        let word = word.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        if !STATEMENTS.contains(&word) {
            let allowed = STATEMENTS.join(", ");
            return Err(format!("has the statement '{}'; there are {allowed}", clipped(word)));
        }
    }
    let inside = |open: &'static str, close: &'static str| {
        text.split(open).skip(1).any(|rest| rest.split(close).next().is_some_and(|inside| inside.contains('*')))
    };
    if inside("{{", "}}") || inside("{%", "%}") {
        return Err("multiplies with '*', which is not allowed".to_owned());
    }
    Ok(())
}

/// A text as it is filled, which takes no more than the longest one has: a loop could make gigabytes of a small example.
struct Filled(Vec<u8>);

impl io::Write for Filled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether there is all that a text asks for besides: filters and tests.
fn known(environment: &Environment<'static>) -> Result<(), String> {
    let mut lenient = environment.clone();
    lenient.set_undefined_behavior(UndefinedBehavior::Chainable);
    let nothing = context! { item => context! {}, sample => context! { output_text => "" } };
    let filled = lenient.get_template(NAME).and_then(|template| template.render(nothing));
    match filled {
        Err(error) if matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest) => {
            Err(format!("is no template: {}", told(&error)))
        }
        _ => Ok(()),
    }
}

/// What an error says, without the name of our template.
fn told(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().filter(|line| *line > 1).map_or(what.clone(), |line| format!("{what} (line {line})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Template;

    #[test]
    fn what_can_make_gigabytes_of_little_is_refused() {
        for (text, why) in [
            ("{% set a = item.a ~ item.a %}{{ a }}", "has the statement 'set'"),
            ("{%- with a = item.a %}{{ a }}{% endwith %}", "has the statement 'with'"),
            ("{{ 'a' * 99999999 }}", "multiplies"),
            ("{% if 'a' * 9 %}{% endif %}", "multiplies"),
            ("{{ item.a | replace('a', item.a) }}", "is no template: "),
            ("{{ item.a | join(item.b) }}", "is no template: "),
        ] {
            let found = Template::parse(text).unwrap_err();
            assert!(found.starts_with(why), "{text}: {found}");
        }
    }

    #[test]
    fn a_loop_does_not_fill_memory() {
        let item = json!({"many": vec![0; 1000], "text": "x".repeat(10_000)});
        let text = "{% for n in item.many %}{{ item.text }}{% endfor %}";
        let why = Template::parse(text).unwrap().fill(&item, "").unwrap_err();
        assert_eq!(why, "the text has more than 1048576 bytes once it is filled");
    }

    #[test]
    fn what_an_answer_and_its_example_have_is_filled_in() {
        let item = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<b>\n"}],
                          "odd name": 3, "deep": {"list": [1, 2]}});
        for (text, filled) in [
            ("{{ sample.output_text }}", "said {{x}}"),
            ("{{sample.output_text | trim | upper}}!", "SAID {{X}}!"),
            ("{{ item.messages[-1].content }}", "<b>\n"),
            ("{{ item['odd name'] }} of {{ item.deep.list[1] }}\n", "3 of 2\n"),
            ("{% for m in item.messages %}{{ m.role[0] }}{% endfor %}", "ua"),
            ("no braces", "no braces"),
        ] {
            assert_eq!(Template::parse(text).unwrap().fill(&item, "said {{x}}").unwrap(), filled, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, why) in [
            ("{{ item.answer", "is no template: "),
            ("{{ answer }}", "names {{ answer }}; there are {{ sample.output_text }}"),
            ("{{ sample.output_tools }}", "names {{ sample.output_tools }}"),
            ("{{ sample }}", "names {{ sample }}"),
            ("{{ item.a | nothing }}", "is no template: "),
            ("{{ range(9) }}", "names {{ range }}"),
        ] {
            let refused = Template::parse(text).map(|template| template.fill(&json!({"a": 1}), "").unwrap_err());
            let told = refused.unwrap_or_else(|why| why);
            assert!(told.contains(why.trim_start_matches("is no template: ")), "{text}: {told}");
        }
        for unknown in ["{{ item.a | nothing }}", "{{ item.a is odder }}"] {
            assert!(Template::parse(unknown).unwrap_err().starts_with("is no template: "), "{unknown}");
        }
        let filled = |text: &str| Template::parse(text).unwrap().fill(&json!({"a": {}}), "").unwrap_err();
        assert_eq!(filled("{{ item.b }}"), "the example has no item.b");
        assert_eq!(filled("{{ item.a.b.c }}"), "the example has no item.a.b.c");
        assert_eq!(filled("{{ item['odd name'] }}"), "the example has no such field");
        let long = json!({"list": vec![0; 1000]});
        let endless = "{% for a in item.list %}{% for b in item.list %}{{ a }}{% endfor %}{% endfor %}";
        let told = Template::parse(endless).unwrap().fill(&long, "").unwrap_err();
        assert!(told.contains("fuel"), "{told}");
    }
}
