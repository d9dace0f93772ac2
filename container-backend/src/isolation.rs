//! Which layers of isolation an instance gets.

use std::fmt;

/// One layer of isolation. Each is on or off by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Layer {
    /// A mount namespace with a root file system of its own, entered by `pivot_root`.
    Mount,
    /// A PID namespace; the program is its process 1.
    Pid,
    /// A network namespace with nothing in it.
    Net,
    /// A System V IPC and POSIX message queue namespace.
    Ipc,
    /// A host name of its own.
    Uts,
    /// A cgroup namespace whose root is the instance's own group.
    Cgroup,
    /// A user namespace in which the caller's user is root. Added by itself where the caller is not root.
    User,
    /// A time namespace (Linux 6.1 or newer).
    Time,
    /// Capabilities reduced to the set that container engines leave by default.
    Capabilities,
    /// `no_new_privs`: set-user-ID programs and file capabilities give nothing.
    NoNewPrivs,
    /// A seccomp filter that refuses what the engines' default profile refuses.
    Seccomp,
    /// A session of its own: no controlling terminal.
    Session,
}

impl Layer {
    /// Every layer, in the order in which they are set up.
    pub const ALL: [Self; 12] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Net,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Time,
        Self::Session,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Seccomp,
    ];

    /// The layer's name in tables and options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::User => "user",
            Self::Time => "time",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no-new-privs",
            Self::Seccomp => "seccomp",
            Self::Session => "session",
        }
    }

    /// The layer of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == name)
    }

    /// The `CLONE_NEW*` flag, for the layers that are namespaces.
    pub(crate) const fn clone_flag(self) -> Option<libc::c_int> {
        match self {
            Self::Mount => Some(libc::CLONE_NEWNS),
            Self::Pid => Some(libc::CLONE_NEWPID),
            Self::Net => Some(libc::CLONE_NEWNET),
            Self::Ipc => Some(libc::CLONE_NEWIPC),
            Self::Uts => Some(libc::CLONE_NEWUTS),
            Self::Cgroup => Some(libc::CLONE_NEWCGROUP),
            Self::User => Some(libc::CLONE_NEWUSER),
            Self::Time => Some(libc::CLONE_NEWTIME),
            Self::Capabilities | Self::NoNewPrivs | Self::Seccomp | Self::Session => None,
        }
    }

    /// Whether an ordinary user needs a user namespace to have this layer.
    const fn is_privileged(self) -> bool {
        !matches!(self, Self::User | Self::NoNewPrivs | Self::Seccomp | Self::Session)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of [`Layer`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isolation(u16);

impl Isolation {
    /// No layer at all: a bare process.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// What a container is: every layer but the user namespace, which is added where the caller is not root, and the
    /// time namespace, which no engine uses by default.
    #[must_use]
    pub fn container() -> Self {
        Layer::ALL
            .into_iter()
            .filter(|layer| !matches!(layer, Layer::User | Layer::Time))
            .fold(Self::none(), Self::with)
    }

    /// The set with `layer` added.
    #[must_use]
    pub const fn with(self, layer: Layer) -> Self {
        Self(self.0 | layer.bit())
    }

    /// The set with `layer` taken away.
    #[must_use]
    pub const fn without(self, layer: Layer) -> Self {
        Self(self.0 & !layer.bit())
    }

    /// Whether `layer` is in the set.
    #[must_use]
    pub const fn has(self, layer: Layer) -> bool {
        self.0 & layer.bit() != 0
    }

    /// Whether this is a bare process.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The layers of the set, in the order in which they are set up.
    pub fn layers(self) -> impl Iterator<Item = Layer> {
        Layer::ALL.into_iter().filter(move |&layer| self.has(layer))
    }

    /// The rungs of a ladder from a bare process to a container, each with one layer (or two of a kind) more than the one
    /// before it: for measuring what each costs at the start, at the end, in memory and per system call.
    ///
    /// Limits are no layer: the last rung with and without [`Limits`](crate::Limits) shows what they cost.
    #[must_use]
    pub fn ladder() -> Vec<(&'static str, Self)> {
        let rungs: [(&str, &[Layer]); 10] = [
            ("spawn", &[]),
            ("+session", &[Layer::Session]),
            ("+mount", &[Layer::Mount]),
            ("+pid", &[Layer::Pid]),
            ("+ipc,uts", &[Layer::Ipc, Layer::Uts]),
            ("+net", &[Layer::Net]),
            ("+cgroup", &[Layer::Cgroup]),
            ("+capabilities", &[Layer::Capabilities]),
            ("+no-new-privs,seccomp", &[Layer::NoNewPrivs, Layer::Seccomp]),
            ("+user", &[Layer::User]),
        ];
        let mut sum = Self::none();
        let climb = |(name, layers): (&'static str, &[Layer])| {
            sum = layers.iter().fold(sum, |set, &layer| set.with(layer));
            (name, sum)
        };
        rungs.into_iter().map(climb).collect()
    }

    /// The container, and the container without each of its layers in turn: what a layer costs beside all others.
    #[must_use]
    pub fn without_each() -> Vec<(String, Self)> {
        let whole = Self::container();
        let without = whole.layers().map(|layer| (format!("-{}", layer.name()), whole.without(layer)));
        std::iter::once(("all".to_owned(), whole)).chain(without).collect()
    }

    /// What a caller with or without root's rights really gets.
    ///
    /// An ordinary user needs the user namespace for most layers, and for a filter either that or no_new_privs.
    #[must_use]
    pub(crate) fn effective(self, is_root: bool) -> Self {
        if is_root {
            self
        } else if self.layers().any(Layer::is_privileged) {
            self.with(Layer::User)
        } else if self.has(Layer::Seccomp) && !self.has(Layer::User) {
            self.with(Layer::NoNewPrivs)
        } else {
            self
        }
    }
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isolation({self})")
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        for (i, layer) in self.layers().enumerate() {
            if i > 0 {
                f.write_str("+")?;
            }
            f.write_str(layer.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_can_be_added_and_taken_away() {
        let set = Isolation::none().with(Layer::Pid).with(Layer::Net).without(Layer::Pid);
        assert_eq!(set.layers().collect::<Vec<_>>(), [Layer::Net]);
        assert_eq!(set.to_string(), "net");
        assert!(Isolation::none().is_none());
    }

    #[test]
    fn every_name_finds_its_layer_again() {
        for layer in Layer::ALL {
            assert_eq!(Layer::from_name(layer.name()), Some(layer));
        }
        assert_eq!(Layer::from_name("nothing"), None);
    }

    #[test]
    fn the_ladder_climbs_to_the_whole_container() {
        let ladder = Isolation::ladder();
        assert!(ladder[0].1.is_none());
        assert!(ladder.windows(2).all(|pair| pair[1].1.layers().count() > pair[0].1.layers().count()));
        let (last, before) = (ladder[ladder.len() - 1].1, ladder[ladder.len() - 2].1);
        assert_eq!((before, last), (Isolation::container(), Isolation::container().with(Layer::User)));
        assert_eq!(Isolation::without_each().len(), 1 + Isolation::container().layers().count());
    }

    #[test]
    fn only_an_ordinary_user_gets_a_user_namespace_unasked() {
        assert!(!Isolation::container().effective(true).has(Layer::User));
        assert!(Isolation::container().effective(false).has(Layer::User));
        assert!(Isolation::none().effective(false).is_none());
        assert!(!Isolation::none().with(Layer::Seccomp).effective(false).has(Layer::User));
    }
}
