//! Nodes of the file system.

use crate::errno::{EFBIG, ENOSPC, Result};
use crate::{heap, user};
use vm_abi::NODES;

/// Longest name of a node.
pub const NAME_MAX: usize = 63;

/// Index of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeId(pub u16);

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No node.
    Free,
    /// A directory.
    Directory,
    /// /dev/null
    Null,
    /// /dev/zero
    Zero,
    /// /dev/full
    Full,
    /// /dev/random, /dev/urandom
    Random,
    /// Standard input, output or error of the host.
    Stream(u8),
    /// A file handed over, by its index.
    File(u16),
    /// /proc/self/exe
    SelfExe,
    /// A file in memory.
    Memory,
}

/// A node.
#[derive(Clone, Copy)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Directory that holds it.
    pub parent: NodeId,
    /// Permission bits.
    pub mode: u32,
    /// Open descriptions of it.
    pub opens: u16,
    /// Length of a file in memory.
    pub size: u64,
    data: u64,
    capacity: u64,
    linked: bool,
    name_len: u8,
    name: [u8; NAME_MAX],
}

impl Node {
    const FREE: Self = Self {
        kind: Kind::Free,
        parent: NodeId(0),
        mode: 0,
        opens: 0,
        size: 0,
        data: 0,
        capacity: 0,
        linked: false,
        name_len: 0,
        name: [0; NAME_MAX],
    };

    /// Its name; empty for the root.
    pub fn name(&self) -> &[u8] {
        if self.parent == NodeId(0) && self.name[0] == b'/' {
            b""
        } else {
            &self.name[..usize::from(self.name_len)]
        }
    }

    /// Moves it.
    pub fn rename(&mut self, parent: NodeId, name: &[u8]) {
        let len = name.len().min(NAME_MAX);
        self.parent = parent;
        self.name_len = len as u8;
        self.name[..len].copy_from_slice(&name[..len]);
    }

    /// Changes the length of a file in memory; new bytes are zero.
    pub fn resize(&mut self, size: u64) -> Result<()> {
        if size > self.capacity {
            // Doubling: each byte is copied a bounded number of times on average. Where that is too much, what is needed.
            let needed = heap::pages(size).map_err(|_| EFBIG)?;
            let doubled = needed.max(self.capacity.saturating_mul(2));
            self.grow(doubled).or_else(|_| self.grow(needed))?;
        } else if size < self.size {
            heap::clear(self.data + size, self.data + self.size);
        }
        self.size = size;
        Ok(())
    }

    fn grow(&mut self, capacity: u64) -> Result<()> {
        let data = if self.capacity == 0 {
            heap::map(capacity, true)
        } else {
            heap::remap(self.data, self.capacity, capacity, true)
        };
        self.data = data.map_err(|_| ENOSPC)?;
        self.capacity = capacity;
        Ok(())
    }

    /// Address and length of a file in memory.
    pub fn contents(&self) -> (u64, u64) {
        (self.data, self.size)
    }

    /// Whether it still has a name.
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    /// Reads from a file in memory into the program's memory.
    pub fn read_at(&self, offset: u64, to: u64, len: u64) -> u64 {
        let n = self.size.saturating_sub(offset).min(len);
        user::copy(to, self.data + offset, n);
        n
    }

    /// Writes to a file in memory from the program's memory.
    pub fn write_at(&mut self, offset: u64, from: u64, len: u64) -> Result {
        user::check(from, len)?;
        let end = offset.checked_add(len).ok_or(EFBIG)?;
        if end > self.size {
            self.resize(end)?;
        }
        user::copy(self.data + offset, from, len);
        Ok(len)
    }

    fn free_data(&mut self) {
        if self.capacity != 0 && heap::unmap(self.data, self.capacity).is_ok() {
            (self.data, self.capacity, self.size) = (0, 0, 0);
        }
    }
}

/// All nodes.
pub struct Table {
    nodes: [Node; NODES],
    used: usize,
}

impl Table {
    /// Without any node.
    pub const fn new() -> Self {
        Self { nodes: [Node::FREE; NODES], used: 0 }
    }

    /// Whether it was never filled.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// A node.
    pub fn get(&self, id: NodeId) -> &Node {
        &self.nodes[usize::from(id.0) % NODES]
    }

    /// A node, to change it.
    pub fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[usize::from(id.0) % NODES]
    }

    /// Makes a node; `None` where the table is full or the name too long.
    pub fn add(&mut self, parent: NodeId, name: &[u8], kind: Kind) -> Option<NodeId> {
        let at = self.nodes.iter().position(|n| n.kind == Kind::Free)?;
        if name.len() > NAME_MAX {
            return None;
        }
        let mode = if kind == Kind::Directory { 0o755 } else { 0o666 };
        self.nodes[at] = Node { kind, mode, linked: true, ..Node::FREE };
        self.nodes[at].rename(parent, name);
        self.used = self.used.max(at + 1);
        Some(NodeId(at as u16))
    }

    /// The node of a name in a directory.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.children(parent).find(|(_, n)| n.name() == name).map(|(id, _)| id)
    }

    /// The nodes of a directory.
    pub fn children(&self, parent: NodeId) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes[..self.used]
            .iter()
            .enumerate()
            .skip(1)
            .filter(move |(_, n)| n.linked && n.kind != Kind::Free && n.parent == parent)
            .map(|(i, n)| (NodeId(i as u16), n))
    }

    /// Whether a directory holds anything.
    pub fn has_children(&self, id: NodeId) -> bool {
        self.children(id).next().is_some()
    }

    /// Whether a node is `top` or lies below it.
    pub fn is_below(&self, mut id: NodeId, top: NodeId) -> bool {
        loop {
            if id == top {
                return true;
            }
            if id == NodeId(0) {
                return false;
            }
            id = self.get(id).parent;
        }
    }

    /// Takes the name away; the node goes when nobody has it open.
    pub fn unlink(&mut self, id: NodeId) {
        let node = self.get_mut(id);
        node.linked = false;
        if node.opens == 0 {
            node.free_data();
            node.kind = Kind::Free;
        }
    }

    /// One description fewer.
    pub fn close(&mut self, id: NodeId) {
        let node = self.get_mut(id);
        node.opens = node.opens.saturating_sub(1);
        if node.opens == 0 && !node.linked {
            node.free_data();
            node.kind = Kind::Free;
        }
    }
}
