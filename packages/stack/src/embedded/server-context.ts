import type { Guard } from '../connect-guard.ts'

/** The inputs to start any embedded server. */
export type ServerContext = {
  dataDir: string
  guard: Guard
  /** The command of a Java that is new enough. */
  java: string
  /** Its place in the order of the stop. */
  order: number
  logFile: (name: string) => string
  report: (line: string) => void
}
