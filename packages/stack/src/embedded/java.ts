import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'

const INSTALL_JAVA =
  'install a Java runtime, version 17 or newer (Debian and Ubuntu: apt install openjdk-17-jre-headless; macOS: brew install openjdk@17)'

/** The major version in the first line of `java -version`; undefined when there is none. */
export const readJavaVersion = (output: string): number | undefined => {
  const [, first, second] = /version "(\d+)(?:\.(\d+))?/.exec(output) ?? []
  return first === undefined ? undefined : Number(first === '1' ? second : first)
}

/** The command of a Java that can run the servers; throws one line with the package to install. */
export const findJava = async (): Promise<string> => {
  const java = process.env.JAVA_HOME ? join(process.env.JAVA_HOME, 'bin', 'java') : 'java'
  const output = await promisify(execFile)(java, ['-version']).then(
    ({ stdout, stderr }) => stdout + stderr,
    () => undefined,
  )
  if (output === undefined)
    throw new Error(`Kafka needs Java, and there is no ${java} that runs: ${INSTALL_JAVA}.`)
  const version = readJavaVersion(output)
  if (version === undefined || version < 17)
    throw new Error(
      `Kafka needs Java 17, and ${java} is ${version ?? 'of an unknown version'}: ${INSTALL_JAVA}.`,
    )
  return java
}

/** Small and quick to start rather than fast in the long run: one machine carries the whole system. */
export const javaFlags = (heapMb: number) => [
  `-Xmx${heapMb}m`,
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-Djava.net.preferIPv4Stack=true',
]
