import CkptLayout
import OSAL
import SAFTypes

// Sections that their writers write themselves.
extension MappedReplica {
    private static let readsMax = 4

    @inline(__always)
    private func section(_ place: DirectPlace) -> DirectSection? {
        guard let direct, directGeneration == file.directGeneration else { return nil }
        return DirectSection(place, in: direct.bytes)
    }

    /// There is something else to be mapped, or what is mapped cannot be used.
    private func missing<Value>() -> Outcome<Value> {
        directGeneration == file.directGeneration ? .ask : .replaced
    }

    /// The section, if its writers write it themselves.
    func findDirect(_ id: UnsafeRawBufferPointer) -> Outcome<DirectTarget> {
        guard owner != 0, isReadable else { return isOfOldMembership ? .replaced : .ask }
        switch find(id) {
        case .direct(let place):
            guard let section = section(place) else { return missing() }
            return .done(DirectTarget(section: section, replica: self))
        case .section, .busy, .ask: return .ask
        case .grown: return .grown
        case .retired: return .replaced
        }
    }

    /// Copies part of a section to where `buffer` says; the number of bytes.
    func readDirect(
        _ place: DirectPlace, _ offset: UInt64, _ count: UInt64, into buffer: (Int) -> UnsafeMutableRawBufferPointer?
    ) -> Outcome<Int> {
        guard let section = section(place) else { return missing() }
        do throws(DirectRefusal) {
            for _ in 0..<Self.readsMax {
                guard let part = part(of: try size(section), offset, count) else { return .ask }
                guard let target = buffer(part.count), target.count >= part.count else { return .ask }
                let view = try section.read(
                    at: part.lowerBound, into: UnsafeMutableRawBufferPointer(rebasing: target[..<part.count]))
                if isStill(part, view.size, offset, count) { return .done(part.count) }
            }
        } catch {}  // ckptd says what is wrong with it
        return .ask
    }

    func readDirect(_ place: DirectPlace, _ offset: UInt64, _ count: UInt64) -> Outcome<[UInt8]> {
        guard let section = section(place) else { return missing() }
        for _ in 0..<Self.readsMax {
            guard let size = try? size(section), let part = part(of: size, offset, count) else { return .ask }
            var view: DirectView?
            let bytes = [UInt8](unsafeUninitializedCapacity: part.count) { target, initialized in
                let target = UnsafeMutableRawBufferPointer(
                    rebasing: UnsafeMutableRawBufferPointer(target)[..<part.count])
                view = try? section.read(at: part.lowerBound, into: target)  // nil: ckptd says why
                initialized = view?.copied ?? 0
            }
            guard let view else { return .ask }
            if isStill(part, view.size, offset, count) { return .done(bytes) }
        }
        return .ask
    }

    private func size(_ section: DirectSection) throws(DirectRefusal) -> Int {
        try section.read(at: 0, into: UnsafeMutableRawBufferPointer(start: nil, count: 0)).size
    }

    /// Whether what is asked for is the same part now that the section has this size.
    private func isStill(_ part: Range<Int>, _ size: Int, _ offset: UInt64, _ count: UInt64) -> Bool {
        self.part(of: size, offset, count)?.count == part.count
    }
}
