import type { Guard } from '../connect-guard.ts'

/** What every embedded server needs to start. */
export type ServerContext = {
  dataDir: string
  guard: Guard
  /** The command of a Java that is new enough. */
  java: string
  /** Its place when everything stops. */
  order: number
  logFile: (name: string) => string
  report: (line: string) => void
}
