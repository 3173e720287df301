import { type ParseArgsConfig, parseArgs } from 'node:util'

/** The exit codes of all commands: scripts rely on them. */
export const EXIT = {
  /** Done, and what was asked for holds. */
  ok: 0,
  /** What was checked does not hold, or a part was not done: the output says what. */
  wrong: 1,
  /** Wrong options or settings; nothing was done. */
  usage: 2,
  /** It could not be done or checked: a server is away, or it was stopped. */
  failed: 3,
} as const

/** An error in one line, without a stack trace. */
export const inOneLine = (error: unknown): string => {
  const { message, code, errors } = (error ?? {}) as { message?: string; code?: string; errors?: unknown[] }
  // A connection to a name of several addresses fails with one error for each, and no message of its own.
  const text = message || (errors?.length ? inOneLine(errors[0]) : undefined) || code || String(error)
  return text.replace(/\s*\n\s*/g, '; ').trim()
}

type Parsed<Config extends ParseArgsConfig> = ReturnType<typeof parseArgs<Config>>

/**
 * Begins a command: `--help` writes the usage and has no other effect, an unknown option or a missing value is refused
 * with the usage, and an error that the command does not handle ends it in one line. `check` throws what is wrong with
 * the arguments. The usage ends with an example.
 */
export const beginCommand = <const Config extends ParseArgsConfig>(
  usage: string,
  config: Config = {} as Config,
  check: (parsed: Parsed<Config>) => void = () => {},
): Parsed<Config> => {
  const refuse = (message: string): never => {
    process.stderr.write(`${message}\n\n${usage.trimEnd()}\n`)
    process.exit(EXIT.usage)
  }
  const args = config.args ?? process.argv.slice(2)
  // Before all else: together with other arguments, even wrong ones, it only tells.
  if (args.includes('--help')) {
    process.stdout.write(`${usage.trimEnd()}\n`)
    process.exit(EXIT.ok)
  }
  process.once('uncaughtException', error => {
    process.stderr.write(`failed: ${inOneLine(error)}\n`)
    process.exit(EXIT.failed)
  })
  try {
    const parsed = parseArgs(config) as Parsed<Config>
    check(parsed)
    return parsed
  } catch (error) {
    return refuse((error as Error).message)
  }
}

/**
 * Ends the command once what it wrote is out. `process.exit` alone drops what does not fit into a pipe (64 KiB) whose
 * reader is slow: a list that `jq` or a script reads would be cut without a word.
 */
export const endCommand = (code: number): void => {
  process.exitCode = code
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)))
}
