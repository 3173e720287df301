/**
 * Turns a function over many questions into one over a single question: all calls of one turn of the event loop share
 * one run of `many`, so that a hundred simultaneous requests cost one SQL statement. `many` answers in the order of the
 * questions.
 */
export const batchPerTick = <Question, Answer>(
  many: (questions: Question[]) => Promise<Answer[]>,
  maxBatch = 500,
): ((question: Question) => Promise<Answer>) => {
  let waiting: Array<{
    question: Question
    resolve: (answer: Answer) => void
    reject: (error: unknown) => void
  }> = []

  const run = async (calls: typeof waiting) => {
    try {
      const answers = await many(calls.map(({ question }) => question))
      for (const [index, { resolve }] of calls.entries()) resolve(answers[index]!)
    } catch (error) {
      for (const { reject } of calls) reject(error)
    }
  }

  return question =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) {
        setImmediate(() => {
          const calls = waiting
          waiting = []
          for (let at = 0; at < calls.length; at += maxBatch) void run(calls.slice(at, at + maxBatch))
        })
      }
      waiting.push({ question, resolve, reject })
    })
}
