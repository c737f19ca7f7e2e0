// The red-black rules: the root and the leaf are black, a red node has black children, and every path from a node down
// to the leaf passes as many black nodes. Both procedures restore them after one change in O(log n).
extension OrderedMap {
    func left(_ node: Int32) -> Int32 { links[Int(node)].left }
    func right(_ node: Int32) -> Int32 { links[Int(node)].right }
    func parent(_ node: Int32) -> Int32 { links[Int(node)].parent }
    func isRed(_ node: Int32) -> Bool { links[Int(node)].isRed }

    /// Puts `new` where `old` hangs.
    private mutating func replace(_ old: Int32, by new: Int32) {
        let above = parent(old)
        if above == 0 {
            root = new
        } else if left(above) == old {
            links[Int(above)].left = new
        } else {
            links[Int(above)].right = new
        }
        links[Int(new)].parent = above  // also of the leaf: balancing after a removal climbs from it
    }

    private mutating func rotateLeft(_ node: Int32) {
        let up = right(node)
        let middle = left(up)
        replace(node, by: up)
        links[Int(node)].right = middle
        if middle != 0 { links[Int(middle)].parent = node }
        links[Int(up)].left = node
        links[Int(node)].parent = up
    }

    private mutating func rotateRight(_ node: Int32) {
        let up = left(node)
        let middle = right(up)
        replace(node, by: up)
        links[Int(node)].left = middle
        if middle != 0 { links[Int(middle)].parent = node }
        links[Int(up)].right = node
        links[Int(node)].parent = up
    }

    mutating func balanceAfterInsertion(_ inserted: Int32) {
        var node = inserted
        while isRed(parent(node)) {
            let above = parent(node)
            let top = parent(above)
            let isLeft = above == left(top)
            let uncle = isLeft ? right(top) : left(top)
            if isRed(uncle) {
                links[Int(above)].isRed = false
                links[Int(uncle)].isRed = false
                links[Int(top)].isRed = true
                node = top
                continue
            }
            if isLeft {
                if node == right(above) {
                    node = above
                    rotateLeft(node)
                }
                links[Int(parent(node))].isRed = false
                links[Int(top)].isRed = true
                rotateRight(top)
            } else {
                if node == left(above) {
                    node = above
                    rotateRight(node)
                }
                links[Int(parent(node))].isRed = false
                links[Int(top)].isRed = true
                rotateLeft(top)
            }
        }
        links[Int(root)].isRed = false
    }

    /// Takes `node` out of the tree; its place in the arrays stays.
    mutating func unlink(_ node: Int32) {
        var lostBlack = !isRed(node)
        let risen: Int32
        if left(node) == 0 {
            risen = right(node)
            replace(node, by: risen)
        } else if right(node) == 0 {
            risen = left(node)
            replace(node, by: risen)
        } else {
            let next = leftmost(right(node))  // has no left child; takes the place and the colour of `node`
            lostBlack = !isRed(next)
            risen = right(next)
            if parent(next) == node {
                links[Int(risen)].parent = next
            } else {
                replace(next, by: risen)
                links[Int(next)].right = right(node)
                links[Int(right(next))].parent = next
            }
            replace(node, by: next)
            links[Int(next)].left = left(node)
            links[Int(left(next))].parent = next
            links[Int(next)].isRed = isRed(node)
        }
        if lostBlack { balanceAfterRemoval(risen) }
        links[0] = Links()
    }

    private mutating func balanceAfterRemoval(_ risen: Int32) {
        var node = risen
        while node != root && !isRed(node) {
            let above = parent(node)
            let isLeft = node == left(above)
            var sibling = isLeft ? right(above) : left(above)
            if isRed(sibling) {
                links[Int(sibling)].isRed = false
                links[Int(above)].isRed = true
                if isLeft { rotateLeft(above) } else { rotateRight(above) }
                sibling = isLeft ? right(above) : left(above)
            }
            if !isRed(left(sibling)) && !isRed(right(sibling)) {
                links[Int(sibling)].isRed = true
                node = above
                continue
            }
            if isLeft && !isRed(right(sibling)) {
                links[Int(left(sibling))].isRed = false
                links[Int(sibling)].isRed = true
                rotateRight(sibling)
                sibling = right(above)
            } else if !isLeft && !isRed(left(sibling)) {
                links[Int(right(sibling))].isRed = false
                links[Int(sibling)].isRed = true
                rotateLeft(sibling)
                sibling = left(above)
            }
            links[Int(sibling)].isRed = isRed(above)
            links[Int(above)].isRed = false
            if isLeft {
                links[Int(right(sibling))].isRed = false
                rotateLeft(above)
            } else {
                links[Int(left(sibling))].isRed = false
                rotateRight(above)
            }
            node = root
        }
        links[Int(node)].isRed = false
    }

    /// Whether every rule of the tree holds; for tests. O(n).
    func isWellFormed() -> Bool {
        /// Black nodes on every way down, or nil where a rule is broken.
        func blackHeight(_ node: Int32) -> Int? {
            if node == 0 { return 1 }
            let (lower, upper) = (left(node), right(node))
            if lower != 0 && (parent(lower) != node || !(key(lower) < key(node))) { return nil }
            if upper != 0 && (parent(upper) != node || !(key(node) < key(upper))) { return nil }
            if isRed(node) && (isRed(lower) || isRed(upper)) { return nil }
            guard let height = blackHeight(lower), height == blackHeight(upper) else { return nil }
            return height + (isRed(node) ? 0 : 1)
        }
        let leaf = links[0]
        return !leaf.isRed && leaf.left == 0 && leaf.right == 0 && !isRed(root) && parent(root) == 0
            && blackHeight(root) != nil
    }
}
