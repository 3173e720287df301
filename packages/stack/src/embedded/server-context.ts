import type { Guard } from '../connect-guard.ts'

/** What every embedded server needs to start. */
export type ServerContext = {
  dataDir: string
  guard: Guard
  /** Its place when everything stops. */
  order: number
  logFile: (name: string) => string
  report: (line: string) => void
}
