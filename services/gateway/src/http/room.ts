import type { Routes } from './define-route.ts'

/** What a room of the gateway gives to main.ts. */
export type Room = {
  routes: Routes[]
  /** Ends its workers. */
  stop?: () => Promise<unknown>
}
