import OSAL
import SAFTypes

/// The client's half of the set-up, without any waiting of its own.
enum ClientHandshake {
    enum Outcome {
        case notYet
        case established(Link, Welcome)
        case refused(AisError, Words)
        case failed(Words)
    }

    /// Connects and says hello. Throws when nobody listens.
    static func start(_ path: SystemString, session: SessionID, knownIncarnation: UInt64) throws(OSError) -> Descriptor
    {
        let socket = try UnixSocket.connect(to: path, kind: .seqPacket)
        let hello = Hello(session: session, knownIncarnation: knownIncarnation)
        let bytes = HandshakeFrame.bytes(.hello, body: hello.encoded)
        var outcome: Result<Int?, OSError> = .success(nil)
        bytes.withUnsafeBytes { raw in
            do throws(OSError) {
                outcome = .success(try UnixSocket.send(socket.raw, raw))
            } catch {
                outcome = .failure(error)
            }
        }
        _ = try outcome.get()
        return socket
    }

    /// Looks for the answer.
    static func finish(_ socket: borrowing Descriptor, endpoint: Endpoint) -> Outcome {
        var bytes = [UInt8](repeating: 0, count: HandshakeFrame.sizeMax)
        var received: Received?
        var failure: Words?
        bytes.withUnsafeMutableBytes { buffer in
            do throws(OSError) {
                received = try UnixSocket.receive(socket.raw, into: buffer)
            } catch {
                failure = "\(endpoint): \(error)"
            }
        }
        if let failure { return .failed(failure) }
        guard let received else { return .notYet }
        guard received.count > 0 else { return .failed("\(endpoint) hung up before its welcome") }
        let answer = bytes.withUnsafeBytes { decode(UnsafeRawBufferPointer(rebasing: $0[..<received.count])) }
        switch answer {
        case .success(.welcome(let welcome)):
            do throws(OSError) {
                let own = try Descriptor(duplicating: socket.raw)
                let link = try Link.accept(socket: own, welcome: welcome, descriptors: received.descriptors)
                return .established(link, welcome)
            } catch {
                return .failed("\(endpoint): \(error)")
            }
        case .success(.refused(let error, let text)):
            for descriptor in received.descriptors { IO.close(descriptor) }
            return .refused(error, text)
        case .failure(let error):
            for descriptor in received.descriptors { IO.close(descriptor) }
            return .failed("\(endpoint) answered nonsense: \(error)")
        }
    }

    private enum Answer {
        case welcome(Welcome)
        case refused(AisError, Words)
    }

    private static func decode(_ raw: UnsafeRawBufferPointer) -> Result<Answer, DecodeError> {
        do throws(DecodeError) {
            let (header, body) = try HandshakeFrame.decode(raw)
            switch header.kind {
            case .welcome: return .success(.welcome(try Welcome(decoding: body)))
            case .refused:
                let error = AisError(rawValue: header.status) ?? .library
                return .success(.refused(error, Words(decoding: body, as: UTF8.self)))
            case .hello, .request, .reply, .failure, .oneWay, .pad, .carried, .memory:
                throw .badValue("frame kind \(header.kind); a welcome expected")
            }
        } catch {
            return .failure(error)
        }
    }
}
