// The file outside the database to which an audit service appends each checkpoint: a line each, from the first one on.
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'

const READ_BYTES = 256 * 1024
const LINE_END = 0x0a

/** The whole lines of a checkpoint file in order, and whether its last line is torn. Reads a piece at a time. */
export async function* readCheckpointLines(
  path: string,
): AsyncGenerator<{ line: string; torn: boolean }, void, undefined> {
  const file = await open(path, 'r')
  try {
    let rest = Buffer.alloc(0)
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, null)
      if (bytesRead === 0) break
      rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)])
      for (let end = rest.indexOf(LINE_END); end >= 0; end = rest.indexOf(LINE_END)) {
        yield { line: rest.subarray(0, end).toString('latin1'), torn: false }
        rest = rest.subarray(end + 1)
      }
    }
    if (rest.length > 0) yield { line: rest.toString('latin1'), torn: true }
  } finally {
    await file.close()
  }
}

/** Where the last whole line begins and ends, read from the file's end on; both 0 where there is none. */
const findLastLine = async (file: FileHandle): Promise<{ from: number; to: number; size: number }> => {
  const { size } = await file.stat()
  let to = 0
  for (let at = size; at > 0; ) {
    const length = Math.min(READ_BYTES, at)
    at -= length
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, at)
    for (let end = buffer.lastIndexOf(LINE_END); end >= 0; ) {
      if (to > 0) return { from: at + end + 1, to, size }
      to = at + end + 1
      end = end === 0 ? -1 : buffer.lastIndexOf(LINE_END, end - 1)
    }
  }
  return { from: 0, to, size }
}

/** The last whole line; undefined where the file is missing or has none. */
export const readLastCheckpointLine = async (path: string): Promise<string | undefined> => {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    const { from, to } = await findLastLine(file)
    if (to === 0) return undefined
    const { buffer } = await file.read(Buffer.alloc(to - 1 - from), 0, to - 1 - from, from)
    return buffer.toString('latin1')
  } finally {
    await file.close()
  }
}

/**
 * Appends lines, and resolves once they are on the disk. A torn last line (a crash, a full disk) is cut off first: the
 * file belongs to one instance, so no other one is writing it. Where a write fails, what it left is such a torn line.
 */
export const appendCheckpointLines = async (path: string, lines: readonly string[]): Promise<void> => {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const file = await open(path, 'a+', 0o600)
  try {
    const { to, size } = await findLastLine(file)
    if (to < size) await file.truncate(to)
    await file.appendFile(lines.map(line => `${line}\n`).join(''))
    await file.datasync()
  } finally {
    await file.close()
  }
}
