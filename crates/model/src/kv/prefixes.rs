//! What texts have in common: a tree of blocks of 64 tokens.
//!
//! A node is the tokens of one block and the keys and values of all layers for them, given everything from the root to it.
//! A sequence that uses a node's blocks uses those of all nodes above it, so a node that no sequence uses has only such nodes
//! below it.
use std::cmp::Reverse;
use std::sync::Arc;

use chalot_tensor::attention::{KvBlock, KvType};

use super::pool::{Block, Held};

/// Names a node as long as it is there; nodes that a sequence uses are.
pub(super) type NodeId = usize;

#[derive(Debug)]
struct Node {
    parent: Option<NodeId>,
    children: Vec<NodeId>,
    depth: usize,
    /// [`KvBlock::TOKENS`] of them.
    tokens: Box<[u32]>,
    /// By layer.
    blocks: Vec<Arc<Block>>,
    /// When it was last made or found; never before those below it.
    used: u64,
}

impl Node {
    fn is_idle(&self) -> bool {
        self.blocks.iter().all(|block| block.is_idle())
    }

    fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.kv.bytes()).sum()
    }
}

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    /// The first blocks, by type.
    roots: Vec<(KvType, Vec<NodeId>)>,
    clock: u64,
}

/// The longest beginning of a text that is there.
pub(super) struct Found {
    /// Tokens of it.
    pub tokens: usize,
    /// Its whole blocks' nodes.
    pub nodes: Vec<NodeId>,
    /// `[blocks][layers]`; the last block may be one of which only a part is of use.
    pub blocks: Vec<Vec<Held>>,
}

impl Prefixes {
    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)?.as_ref()
    }

    fn below(&self, root: KvType, parent: Option<NodeId>) -> &[NodeId] {
        match parent {
            Some(parent) => self.node(parent).map_or(&[], |node| &node.children),
            None => self.roots.iter().find(|(name, _)| *name == root).map_or(&[], |(_, nodes)| nodes),
        }
    }

    fn below_mut(&mut self, root: KvType, parent: Option<NodeId>) -> Option<&mut Vec<NodeId>> {
        match parent {
            Some(parent) => Some(&mut self.nodes.get_mut(parent)?.as_mut()?.children),
            None => {
                let index = self.roots.iter().position(|(name, _)| *name == root).unwrap_or_else(|| {
                    self.roots.push((root, Vec::new()));
                    self.roots.len() - 1
                });
                Some(&mut self.roots[index].1)
            }
        }
    }

    /// Marks a node and all above it as just used.
    fn touch(&mut self, id: NodeId) {
        self.clock += 1;
        let mut next = Some(id);
        while let Some(node) = next.and_then(|id| self.nodes.get_mut(id)?.as_mut()) {
            node.used = self.clock;
            next = node.parent;
        }
    }

    /// Looks for the longest beginning of `tokens`.
    pub(super) fn find(&mut self, root: KvType, tokens: &[u32]) -> Found {
        let mut found = Found { tokens: 0, nodes: Vec::new(), blocks: Vec::new() };
        let (mut parent, mut last) = (None, None);
        while found.tokens < tokens.len() {
            let rest = &tokens[found.tokens..];
            let common = |node: &Node| node.tokens.iter().zip(rest).take_while(|(a, b)| a == b).count();
            let candidates = self.below(root, parent).iter();
            let best = candidates.filter_map(|&id| Some((common(self.node(id)?), id))).max();
            let Some((common @ 1.., id)) = best else { break };
            let Some(node) = self.node(id) else { break };
            found.blocks.push(node.blocks.iter().cloned().map(Held::new).collect());
            found.tokens += common;
            last = Some(id);
            if common < KvBlock::TOKENS {
                break;
            }
            found.nodes.push(id);
            parent = Some(id);
        }
        if let Some(id) = last {
            self.touch(id);
        }
        found
    }

    /// Makes the block after `parent` known. If it is known already, that is used from now on: `blocks` become its blocks.
    /// `None` when `parent` is not there.
    pub(super) fn insert(
        &mut self,
        root: KvType,
        parent: Option<NodeId>,
        tokens: &[u32],
        blocks: &mut [&mut Held],
    ) -> Option<NodeId> {
        let known = self.below(root, parent).iter().copied();
        let known =
            known.filter_map(|id| Some((id, self.node(id)?))).find(|(_, node)| *node.tokens == *tokens);
        if let Some((id, node)) = known {
            for (ours, known) in blocks.iter_mut().zip(&node.blocks) {
                **ours = Held::new(known.clone());
            }
            self.touch(id);
            return Some(id);
        }
        let depth = match parent {
            Some(parent) => self.node(parent)?.depth + 1,
            None => 0,
        };
        let blocks = blocks.iter().map(|held| held.block().clone()).collect();
        let node = Node { parent, children: Vec::new(), depth, tokens: tokens.into(), blocks, used: 0 };
        let id = self.free.pop().unwrap_or(self.nodes.len());
        if id == self.nodes.len() {
            self.nodes.push(None);
        }
        self.nodes[id] = Some(node);
        self.below_mut(root, parent)?.push(id);
        self.touch(id);
        Some(id)
    }

    /// Bytes of blocks that no sequence uses.
    pub(super) fn idle_bytes(&self) -> usize {
        self.nodes.iter().flatten().filter(|node| node.is_idle()).map(Node::bytes).sum()
    }

    /// Forgets nodes that no sequence uses, those first that were used longest ago, until `bytes` are free.
    pub(super) fn evict(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let idle = |(id, node): (NodeId, &Option<Node>)| {
            let node = node.as_ref().filter(|node| node.is_idle())?;
            Some((node.used, Reverse(node.depth), id))
        };
        let mut idle: Vec<_> = self.nodes.iter().enumerate().filter_map(idle).collect();
        // A node was used no earlier than those below it, which go first.
        idle.sort_unstable();
        let mut freed = 0;
        for (_, _, id) in idle {
            if freed >= bytes {
                return;
            }
            let Some(node) = self.nodes[id].take() else { continue };
            freed += node.bytes();
            let root = node.blocks.first().map(|block| block.kv.kv_type());
            if let Some(siblings) = root.and_then(|root| self.below_mut(root, node.parent)) {
                siblings.retain(|&sibling| sibling != id);
            }
            self.free.push(id);
        }
    }
}
