//! Signals by name: [`Signal`].

use std::fmt;

/// Names a signal, for [`Child::signal`](crate::Child::signal), [`Child::signal_group`](crate::Child::signal_group) and
/// [`Child::stop`](crate::Child::stop).
///
/// The constants have Linux's numbers on x86-64 and aarch64. A number of type `i32` can be given in place of a constant. Numbers
/// that are no signals (Linux has 1 to 64) are refused by the calls that would send them.
///
/// # Examples
///
/// ```
/// use dockerpool::Signal;
///
/// assert_eq!(Signal::INT, Signal::from(2));
/// assert_eq!((Signal::TERM.number(), Signal::TERM.to_string()), (15, "SIGTERM".to_owned()));
/// assert_eq!(Signal::from(40).to_string(), "signal 40");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl Signal {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// Returns the name, where the signal has a constant.
            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(concat!("SIG", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    /// Says that the terminal is gone (1). Many servers read their configuration again.
    HUP = 1;
    /// Asks a program to stop what it does, as control-C at a terminal does (2).
    INT = 2;
    /// Asks a program to end with a core dump, as control-\ at a terminal does (3).
    QUIT = 3;
    /// Says that the program has given up by itself, by `abort` (6).
    ABRT = 6;
    /// Kills the process for certain (9): no program can catch it.
    KILL = 9;
    /// Has no meaning of its own (10). A program that does not expect it ends.
    USR1 = 10;
    /// Has no meaning of its own (12). A program that does not expect it ends.
    USR2 = 12;
    /// Says that nobody reads what the program writes (13).
    PIPE = 13;
    /// Says that a time has come (14). A program that does not expect it ends.
    ALRM = 14;
    /// Asks a program to end (15).
    TERM = 15;
    /// Lets a stopped process go on (18).
    CONT = 18;
    /// Stops a process for certain (19), until [`CONT`](Self::CONT).
    STOP = 19;
    /// Asks a program to stop until [`CONT`](Self::CONT), as control-Z at a terminal does (20).
    TSTP = 20;
    /// Says that the terminal has another size (28). Programs that do not expect it ignore it.
    WINCH = 28;
}

impl Signal {
    /// Returns the number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Returns what is wrong with the number, if it is no signal.
    pub(crate) fn problem(self) -> Option<String> {
        (!(1..=64).contains(&self.0)).then(|| format!("must be from 1 to 64, and is {}", self.0))
    }
}

impl From<i32> for Signal {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

/// Writes the name, e.g. `SIGTERM`, or `signal 40` where there is none.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
