//! What bounds a template, which is a stranger's program.
//!
//! The engine counts work and memory, and [`super::python`] and [`super::tojson`] stop where a value is too large to write.
//! What neither bounds is comparing (`==`) or joining (`~`) lists that hold one another many times over. No template
//! reaches files: there is no loader of others, and no function that opens one.

use std::thread;

use minijinja::Environment;

/// Work that one rendering may do: an instruction is one unit, and so are 64 bytes that it makes. A message takes about a
/// hundred.
const FUEL: u64 = 500_000;
/// Macros and loops within one another. The engine's own limit is 500.
const DEEPEST: usize = 100;
/// Bytes of a template: signs before signs are parsed by recursion. Published ones have up to 20 thousand.
const LONGEST: usize = 128 << 10;
/// Bytes of stack. Lists within one another are as deep as the fuel lets them be, a level for one and a half units, and are
/// dropped and compared by recursion, of up to 640 bytes a level. Pages that are not touched take no memory.
const STACK: usize = 256 << 20;

/// Refuses a template that is too long.
///
/// # Errors
/// It is.
pub(super) fn check(template: &str) -> Result<(), String> {
    if template.len() > LONGEST {
        return Err(format!("it has {} bytes, of at most {LONGEST}; shorten it", template.len()));
    }
    Ok(())
}

/// Sets the engine's own limits.
pub(super) fn set(environment: &mut Environment<'_>) {
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEEPEST);
}

/// Runs what renders templates on a stack that is deep enough for whatever they build.
///
/// # Errors
/// The work fails, or the system has no room for the stack.
pub(super) fn with_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let started =
            thread::Builder::new().name("chat-template".to_owned()).stack_size(STACK).spawn_scoped(scope, work);
        let worker = started.map_err(|error| format!("there is no memory to render the chat template in: {error}"))?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use minijinja::Value;

    use super::super::environment::{environment, render};
    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        with_deep_stack(|| render(&environment(template, 0)?, Value::from(())))
    }

    const TOO_MUCH: &str = "does more work than one conversation may take";

    #[test]
    fn work_and_memory_are_bounded() {
        for template in [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% macro f() %}{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}{% endmacro %}{{ f() }}",
            "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
            "{% for i in range(100000) %}{{ 'a' * 100000 }}{% endfor %}",
            "{{ ('a' * 10000).replace('a', 'b' * 100000) }}",
            "{{ ('b' * 1000000).join(('a ' * 100000).split()) }}",
            "{{ ('a ' * 100000).split()|join('b' * 1000000) }}",
            "{{ 'a'|indent(1000000000) }}",
            "{{ '%1000000000d'|format(1) }}",
        ] {
            let error = rendered(template).unwrap_err();
            assert!(error.contains(TOO_MUCH), "{template}: {error}");
        }
        assert!(rendered("{{ 'a' * 10000000000 }}").is_err());
        assert!(rendered("{{ 9 ** 9 ** 9 }}").is_err());
        assert!(rendered("{{ [1]|tojson(indent=1000000000) }}").unwrap().len() < 100);
    }

    #[test]
    fn calls_within_one_another_are_bounded() {
        for template in [
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% macro f() %}{% generation %}{{ f() }}{{ f() }}{% endgeneration %}{% endmacro %}{{ f() }}",
            "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
        ] {
            let error = rendered(template).unwrap_err();
            assert!(error.starts_with("the chat template fails on the conversation in line 1"), "{template}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = "{% set ns = namespace(x=[1]) %}{% for i in range(40000) %}{% set ns.x = [ns.x] %}{% endfor %}";
        assert_eq!(rendered(&format!("{nested}{{{{ ns.x|length }}}}")).unwrap(), "1");
        for written in ["ns.x", "ns.x|tojson", "ns.x|string"] {
            let error = rendered(&format!("{nested}{{{{ {written} }}}}")).unwrap_err();
            assert!(error.contains("more than 200 deep"), "{error}");
        }
        for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}")] {
            let template = format!("{{{{ {}1{} }}}}", open.repeat(20_000), close.repeat(20_000));
            assert!(rendered(&template).is_err(), "{open}");
        }
        assert!(rendered(&"{% if 1 %}".repeat(20_000)).is_err());
        for sign in ["-", "not "] {
            let template = format!("{{{{ {}1 }}}}", sign.repeat(LONGEST / sign.len() - 8));
            assert!(rendered(&template).is_ok(), "{sign}");
        }
        assert!(rendered(&" ".repeat(LONGEST + 1)).unwrap_err().starts_with("it has 131073 bytes"));
    }

    #[test]
    fn a_list_that_holds_another_many_times_is_not_written_out() {
        let doubled =
            "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
        for written in ["ns.x", "ns.x|tojson"] {
            let error = rendered(&format!("{doubled}{{{{ {written} }}}}")).unwrap_err();
            assert!(error.contains("takes more than"), "{error}");
        }
    }
}
