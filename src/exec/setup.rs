//! The settings of a command, and what is wrong with them: [`Setup`].

use std::collections::BTreeMap;
use std::ffi::OsStr;

use bytes::Bytes;

use super::stdio::Source;
use crate::agent::Role;
use crate::container::{Container, Running, Shared};
use crate::engine::ExecRequest;
use crate::error::FieldError;
use crate::spec::problems_of_variable;
use crate::values::command_options::CommandOptions;
use crate::values::status::ActiveExec;

/// The longest argument or environment variable that Linux takes, in bytes (`MAX_ARG_STRLEN`, less the final NUL). The engine
/// would end a command with a longer one with exit code 1, and would not say why.
const MAX_ARG: usize = 128 * 1024 - 1;

/// How much arguments and environment may have together, in bytes: a quarter of the usual 8 MiB stack, which is Linux's
/// limit, less some room for the environment that the image sets.
const MAX_ARGS: usize = 2 * 1024 * 1024 - 64 * 1024;

/// The words for a text that is not UTF-8.
const NOT_UTF8: &str = "must be UTF-8: the engine's API takes no other text";

/// What each argument counts beside its bytes: the final NUL, and its place in the list.
const ARG_OVERHEAD: usize = 1 + size_of::<usize>();

/// The settings of a command.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) request: ExecRequest,
    pub(super) role: Role,
    /// Whether the command gets the variables of the container's own command.
    pub(super) with_server_env: bool,
    pub(super) stdin: Source,
    pub(super) outputs: Outputs,
    pub(super) options: CommandOptions,
    /// The first text that cannot be used at all.
    bad_text: Option<FieldError>,
}

/// Which outputs are read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outputs {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

impl Setup {
    pub(super) fn new(program: String) -> Self {
        Self {
            request: ExecRequest {
                argv: vec![program],
                ..Default::default()
            },
            role: Role::Command,
            with_server_env: false,
            stdin: Source::Null,
            outputs: Outputs {
                stdout: true,
                stderr: true,
            },
            options: CommandOptions::default(),
            bad_text: None,
        }
    }

    /// Adds an argument.
    pub(super) fn add_arg(&mut self, arg: &OsStr) {
        let argv = &mut self.request.argv;
        if arg.to_str().is_none() {
            let field = format!("arg {}", argv.len());
            self.bad_text.get_or_insert_with(|| FieldError::new(field, NOT_UTF8));
        }
        argv.push(arg.to_string_lossy().into_owned());
    }

    /// Sets a variable.
    pub(super) fn add_env(&mut self, name: &str, value: &str) {
        let env = &mut self.request.env;
        env.push(format!("{name}={value}"));
        if let Some(problem) = problems_of_variable(name, value).next() {
            let field = format!("env {}", env.len());
            self.bad_text.get_or_insert_with(|| FieldError::new(field, problem));
        }
    }

    /// Notes that the program cannot be used, since it is not UTF-8.
    pub(super) fn program_is_not_utf8(&mut self) {
        self.bad_text
            .get_or_insert_with(|| FieldError::new("program", NOT_UTF8));
    }

    pub(super) fn program(&self) -> &str {
        &self.request.argv[0]
    }

    /// Returns a copy of the settings with the container's options where the command has set none.
    pub(super) fn with_defaults_of(&self, container: &Shared) -> Self {
        let mut setup = self.clone();
        setup.options = setup.options.or(&container.spec.command_defaults.options);
        setup
    }

    /// Returns the settings to run once in this container, with only these outputs and with the variables of its lease.
    pub(super) fn once_in(self, container: &Shared, outputs: Outputs) -> Self {
        let mut setup = self;
        if setup.role == Role::Command {
            setup.request.env = container.with_lease_env(setup.request.env);
        }
        if setup.with_server_env {
            let of_server = container.spec.server_env.variables();
            setup.request.env = of_server.chain(setup.request.env).collect();
        }
        setup.once(outputs)
    }

    /// Returns the settings to run once, with only these outputs.
    pub(super) fn once(self, outputs: Outputs) -> Self {
        let mut once = self;
        // A terminal without input must be given its end: nothing else ends the input there.
        if matches!(once.stdin, Source::Null) && once.request.tty.is_some() {
            once.stdin = Source::Bytes(Bytes::new());
        }
        once.request.stdin = !matches!(once.stdin, Source::Null);
        once.request.env = unique(once.request.env);
        once.request.cpu_time = once.options.cpu_time.flatten();
        once.request.memory = once.options.memory.flatten();
        once.request.processes = once.options.processes.flatten();
        once.request.file_size = once.options.file_size.flatten();
        once.outputs = outputs;
        once
    }

    /// Returns the first setting that the engine would fail on without a word, or with words that look like the program's own
    /// output.
    pub(super) fn problem(&self, container: &Container<Running>) -> Option<FieldError> {
        self.problem_of_texts(self.size_of_other_variables(container.shared()))
            .or_else(|| {
                let (field, problem) = self.options.problem()?;
                Some(FieldError::new(field, problem))
            })
            .or_else(|| {
                let request = &self.request;
                let program = self.program();
                let run_by_env = self.role == Role::CommandWithoutEnv && !container.shared().ends_alone(request);
                if run_by_env && (program.contains('=') || program == "-") {
                    let problem =
                        "must not contain '=' nor be '-' where the exec API runs it and env_clear() was called";
                    return Some(FieldError::new("program", problem));
                }
                let dir = request.current_dir.as_deref()?;
                (!dir.starts_with('/')).then(|| FieldError::new("current_dir", "must be an absolute path"))
            })
    }

    /// Returns why a limit of the command cannot be applied in this container, if one cannot.
    pub(super) fn unsupported(&self, container: &Shared) -> Option<String> {
        let limit = self.options.for_agent().next()?;
        // An agent that is lost has ended with the container, which is another error.
        if container.is_for_agent(&self.request) {
            return None;
        }
        let why = match container.spec.active_exec() {
            ActiveExec::Docker { why } => why,
            _ => "PID 1 may not become the command's user",
        };
        Some(format!(
            "{limit}() needs the agent, and the engine's exec API runs this command ({why})"
        ))
    }

    /// Returns how much the variables of the container and of the lease count.
    fn size_of_other_variables(&self, container: &Shared) -> usize {
        let mut size = 0;
        if self.with_server_env {
            let of_server = container.spec.server_env.variables();
            size += of_server.map(|var| var.len() + ARG_OVERHEAD).sum::<usize>();
        }
        if self.role == Role::CommandWithoutEnv {
            return size;
        }
        let vars = &container.spec.plan.env;
        size += vars
            .iter()
            .map(|(name, value)| name.len() + 1 + value.len() + ARG_OVERHEAD)
            .sum::<usize>();
        container.each_lease_var(|var| size += var.len() + ARG_OVERHEAD);
        size
    }

    /// `others` is how much other variables count, of the [`MAX_ARGS`].
    fn problem_of_texts(&self, others: usize) -> Option<FieldError> {
        let request = &self.request;
        if self.program().is_empty() {
            return Some(FieldError::new("program", "must not be empty"));
        }
        if self.bad_text.is_some() {
            return self.bad_text.clone();
        }
        let mut texts = Vec::with_capacity(request.argv.len() + request.env.len() + 2);
        for (i, arg) in request.argv.iter().enumerate() {
            let field = match i {
                0 => "program".to_owned(),
                i => format!("arg {i}"),
            };
            texts.push((field, arg));
        }
        for (i, var) in request.env.iter().enumerate() {
            texts.push((format!("env {}", i + 1), var));
        }
        texts.extend(request.current_dir.iter().map(|dir| ("current_dir".to_owned(), dir)));
        texts.extend(request.user.iter().map(|user| ("user".to_owned(), user)));
        let mut total = others;
        for (field, text) in texts {
            if text.contains('\0') {
                return Some(FieldError::new(field, "must not contain NUL"));
            }
            if text.len() > MAX_ARG {
                let problem = format!("must have at most {MAX_ARG} bytes, and has {}", text.len());
                return Some(FieldError::new(field, problem));
            }
            total += text.len() + ARG_OVERHEAD;
            if total > MAX_ARGS {
                let problem = format!(
                    "the arguments and the environment, with that of the container and of its lease, have more than {MAX_ARGS} bytes from here on"
                );
                return Some(FieldError::new(field, problem));
            }
        }
        None
    }
}

/// Returns the last variable of each name, in the order of the names.
fn unique(vars: Vec<String>) -> Vec<String> {
    let name = |var: &str| var.split_once('=').map_or(var.len(), |(name, _)| name.len());
    let mut last = BTreeMap::new();
    for var in vars {
        last.insert(var[..name(&var)].to_owned(), var);
    }
    last.into_values().collect()
}
