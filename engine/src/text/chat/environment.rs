//! The engine that renders templates, set up as Transformers sets up jinja2 (`chat_template_utils.py`).
//!
//! What of jinja2 is missing is an error when it is used: `varargs` of macros, `%` on texts, unary plus, `cycler`, `joiner`
//! and the filters that are for web pages. An object's keys go before the methods of its name, so `x.items` is the
//! key. What jinja2 refuses to do with None (loops, slices, comparisons) gives nothing, or false.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::strftime::strftime;
use super::{blocks, filters, limits, methods, python, source, tojson};

/// The name that the template has in the environment.
const NAME: &str = "chat_template";

/// What a template says with `raise_exception`.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// An environment that holds one template. `now` is what `strftime_now` tells, in seconds since 1970.
///
/// # Errors
/// The template is too long or does not parse; the text names line and reason.
pub(super) fn environment(template: &str, now: i64) -> Result<Environment<'static>, String> {
    limits::check(template)?;
    let mut environment = Environment::new();
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|error| error.to_string())?;
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    limits::set(&mut environment);
    environment.set_formatter(|out, _, value| match value.as_str() {
        Some(text) => Ok(out.write_str(text)?),
        None => Ok(out.write_str(&python::text_of(value)?)?),
    });
    environment.set_unknown_method_callback(methods::call);
    environment
        .add_filter("tojson", |value: &Value, ascii: Option<bool>, named: Kwargs| tojson::tojson(value, ascii, &named));
    filters::register(&mut environment);
    environment.remove_global("debug");
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(message)))
    });
    environment.add_function("strftime_now", move |format: &str| strftime(now, format));
    environment.add_filter(source::GENERATION, blocks::enclosed);
    environment.add_template_owned(NAME, source::rewritten(template)).map_err(|error| {
        let line = error.line().unwrap_or_default();
        format!("line {line}: {}; correct it, and test it with Transformers' apply_chat_template", reason(&error))
    })?;
    Ok(environment)
}

/// Renders the environment's template.
///
/// # Errors
/// The template refuses what it is given, fails on it, or does more than it may.
pub(super) fn render(environment: &Environment<'_>, context: Value) -> Result<String, String> {
    let rendered = environment.get_template(NAME).and_then(|template| template.render(context));
    rendered.map_err(|error| match refusal(&error) {
        Some(Refusal(message)) => format!("the chat template refuses the conversation: {message}"),
        None if error.kind() == ErrorKind::OutOfFuel => {
            "the chat template does more work than one conversation may take; shorten the conversation, or simplify the \
             template"
                .to_owned()
        }
        None => {
            let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
            format!("the chat template fails on the conversation{line}: {}", reason(&error))
        }
    })
}

fn refusal(error: &Error) -> Option<&Refusal> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(refusal) = cause.downcast_ref() {
            return Some(refusal);
        }
        next = cause.source();
    }
    None
}

/// What went wrong, without the place.
fn reason(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden<'a> {
        #[serde(borrow)]
        context: &'a RawValue,
        /// Templates and what they give; None where they fail.
        snippets: Vec<(String, Option<String>)>,
    }

    fn rendered(template: &str) -> Result<String, String> {
        render(&environment(template, 0)?, Value::from(()))
    }

    #[test]
    fn snippets_give_what_they_give_in_jinja2() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat/chat_jinja.json"));
        let golden: Golden<'_> = serde_json::from_str(text).unwrap();
        let context = super::super::json::read(golden.context.get()).unwrap();
        for (template, expected) in &golden.snippets {
            let made = environment(template, 0).and_then(|environment| render(&environment, context.clone()));
            assert_eq!(made.as_ref().ok(), expected.as_ref(), "{template}: {made:?}");
        }
    }

    #[test]
    fn a_template_that_does_not_parse_names_line_and_reason() {
        for (template, expected) in [
            ("a\n{% if x %}\n{{ y }}", "line 3: syntax error: unexpected end of input, expected end of block"),
            ("a\n\n{{ 1 + }}", "line 3: syntax error: unexpected end of variable block"),
            ("{% nonsense %}", "line 1: syntax error: unknown statement nonsense"),
        ] {
            let error = environment(template, 0).map(|_| ()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(error.ends_with("; correct it, and test it with Transformers' apply_chat_template"), "{error}");
        }
    }

    #[test]
    fn what_a_template_refuses_it_says() {
        let refused = "the chat template refuses the conversation: Roles must alternate!";
        for template in [
            "{{ raise_exception('Roles must alternate!') }}",
            "{% macro f() %}{% generation %}{{ raise_exception('Roles must alternate!') }}{% endgeneration %}{% endmacro %}{{ f() }}",
        ] {
            assert_eq!(rendered(template), Err(refused.to_owned()));
        }
        let failed = "the chat template fails on the conversation in line 2: undefined value";
        assert_eq!(rendered("a\n{{ x.y.z }}"), Err(failed.to_owned()));
    }

    #[test]
    fn templates_reach_no_files() {
        for template in
            ["{% include 'x' %}", "{% import 'x' as x %}", "{% extends 'x' %}", "{{ open('x') }}", "{{ debug() }}"]
        {
            assert!(rendered(template).is_err(), "{template}");
        }
    }
}
