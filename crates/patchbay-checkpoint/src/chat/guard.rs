//! What keeps a template's values small, and its work short.
//!
//! The engine charges fuel for what it makes, but a list that is added to itself, multiplied or put twice into another is made
//! only when it is looked at, and may then be of any size: thirty lines are enough to fill a memory. So a compiled template gets
//! more instructions. Before a value gets a name, and after a sum or a product, all that lies in it is counted, paid for and held
//! against a limit; before whatever may look at a whole value, the clock is read. A value is used twice only by a name, so between
//! two readings of the clock no more is done than the template's own length times that limit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

/// What may lie in one value: lists, objects and what they hold, each counted as often as it is found.
const LARGEST: u64 = 1 << 20;
/// Values that are counted for one instruction's price.
const COUNTED_AT_ONCE: u64 = 8;
/// How long a template may run; a long conversation takes a hundredth of this.
const LONGEST: Duration = Duration::from_millis(500);

/// The filters that the instructions added call. Filters are not variables, so that no template can put its own there; that one
/// can call these does no harm.
const BOUNDED: &str = "(bounded)";
const TIMELY: &str = "(timely)";

/// A template that is compiled and guarded.
pub(super) struct Guarded<'a> {
    instructions: Instructions<'a>,
    blocks: BTreeMap<&'a str, Instructions<'a>>,
}

impl<'a> Guarded<'a> {
    /// Compiles a template.
    pub(super) fn compile(source: &'a str, syntax: SyntaxConfig) -> Result<Self, Error> {
        let tree = parse(source, NAME, syntax)?;
        let mut generator = CodeGenerator::new(NAME, source);
        generator.compile_stmt(&tree);
        let (instructions, blocks) = generator.finish();
        let blocks = blocks.iter().map(|(name, block)| (*name, guarded(block))).collect();
        Ok(Self { instructions: guarded(&instructions), blocks })
    }

    /// Runs it, in an environment that [`add_to`] was called on.
    pub(super) fn render(&self, environment: &Environment<'a>, context: Value) -> Result<String, Error> {
        let mut text = String::new();
        let mut output = make_string_output(&mut text);
        eval(environment, &self.instructions, context, &self.blocks, &mut output, AutoEscape::None)?;
        drop(output);
        Ok(text)
    }
}

const NAME: &str = "chat template";

/// Adds what the added instructions call. The time that a template may take begins here.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    let begin = Instant::now();
    let timely = move || match begin.elapsed() > LONGEST {
        true => Err(refused(&format!("it runs longer than {} ms", LONGEST.as_millis()))),
        false => Ok(()),
    };
    environment.add_filter(BOUNDED, move |state: &State<'_, '_>, value: ValueOrKwargs| -> Result<Value, Error> {
        let value = value.into_value();
        timely()?;
        count(state, &value, &timely)?;
        Ok(value)
    });
    // What is on top may be named arguments, too.
    environment.add_filter(TIMELY, move |value: ValueOrKwargs| timely().map(|()| value.into_value()));
}

fn refused(detail: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.to_owned())
}

/// Counts and pays for all that lies in a value.
fn count(state: &State<'_, '_>, value: &Value, timely: &impl Fn() -> Result<(), Error>) -> Result<(), Error> {
    let is_whole = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map);
    if !is_whole(value) {
        return Ok(());
    }
    let mut open = vec![value.clone()];
    let mut counted: u64 = 0;
    while let Some(value) = open.pop() {
        let is_map = value.kind() == ValueKind::Map;
        for item in value.try_iter()? {
            counted += 1;
            if counted > LARGEST {
                return Err(refused(&format!("a value holds more than {LARGEST} others")));
            }
            if counted.is_multiple_of(COUNTED_AT_ONCE) {
                state.consume_fuel(1)?;
            }
            if counted.is_multiple_of(1 << 12) {
                timely()?;
            }
            let inner = if is_map { value.get_item(&item)? } else { item };
            if is_whole(&inner) {
                open.push(inner);
            }
        }
    }
    Ok(())
}

/// The same instructions with guards among them, and jumps to where what they led to is now.
fn guarded<'a>(plain: &Instructions<'a>) -> Instructions<'a> {
    let call = |filter| Instruction::ApplyFilter(filter, Some(1), !0);
    let mut guarded = Instructions::new(plain.name(), plain.source());
    let mut places = Vec::new();
    for (at, instruction) in (0..).map_while(|at| Some((at, plain.get(at)?))) {
        let (before, after) = guards(instruction);
        let parts = before.iter().map(|guard| guard.instruction(call));
        let parts = parts.chain([instruction.clone()]).chain(after.iter().map(|guard| guard.instruction(call)));
        for (i, part) in parts.enumerate() {
            let place = match (plain.get_span(at), plain.get_line(at)) {
                (Some(span), _) => guarded.add_with_span(part, span),
                (None, Some(line)) => guarded.add_with_line(part, u16::try_from(line).unwrap_or(u16::MAX)),
                (None, None) => guarded.add(part),
            };
            if i == 0 {
                places.push(place);
            }
        }
    }
    // A jump may lead to behind the last instruction.
    places.push((0..).find(|at| guarded.get(*at).is_none()).unwrap_or_default());
    for at in 0..places[places.len() - 1] {
        if let Some(
            Instruction::Jump(target)
            | Instruction::JumpIfFalse(target)
            | Instruction::JumpIfFalseOrPop(target)
            | Instruction::JumpIfTrueOrPop(target)
            | Instruction::Iterate(target)
            | Instruction::BuildMacro(_, target, _),
        ) = guarded.get_mut(at)
        {
            *target = places.get(*target as usize).copied().unwrap_or(*target);
        }
    }
    guarded
}

#[derive(Clone, Copy)]
enum Guard {
    /// Counts the value on top of the stack.
    Bounded,
    /// Reads the clock.
    Timely,
    /// Changes the places of the two values on top.
    Swap,
}

impl Guard {
    fn instruction<'a>(self, call: impl Fn(&'static str) -> Instruction<'a>) -> Instruction<'a> {
        match self {
            Self::Bounded => call(BOUNDED),
            Self::Timely => call(TIMELY),
            Self::Swap => Instruction::Swap,
        }
    }
}

/// What comes before an instruction, and what after it.
fn guards(instruction: &Instruction<'_>) -> (&'static [Guard], &'static [Guard]) {
    use Guard::{Bounded, Swap, Timely};
    match instruction {
        Instruction::StoreLocal(_) => (&[Bounded], &[]),
        // The value lies under the namespace that it goes into.
        Instruction::SetAttr(_) => (&[Swap, Bounded, Swap], &[]),
        Instruction::Add | Instruction::Mul => (&[Timely], &[Bounded]),
        Instruction::Eq
        | Instruction::Ne
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::In
        | Instruction::CompareAndPreserve(_)
        | Instruction::StringConcat
        | Instruction::Slice
        | Instruction::Emit
        | Instruction::ApplyFilter(_, Some(1..), _)
        | Instruction::PerformTest(_, Some(1..), _)
        | Instruction::CallMethod(_, Some(1..))
        | Instruction::CallFunction(_, Some(1..))
        | Instruction::CallObject(Some(1..)) => (&[Timely], &[]),
        _ => (&[], &[]),
    }
}
