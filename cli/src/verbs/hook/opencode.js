// Written by `conclave hook install opencode`. Puts unread messages of conclave before the agent.
import { spawnSync } from "node:child_process"

const [program, ...flags] = COMMAND

// What `conclave hook` answers to an event, if anything is unread.
function ask(event, input) {
  const typed = [...flags, "hook", event, "--client", "opencode"]
  try {
    const { stdout } = spawnSync(program, typed, { input: JSON.stringify(input), timeout: 1000 })
    return JSON.parse(stdout.toString()).text
  } catch {
    return undefined
  }
}

export const Conclave = async ({ client, directory }) => {
  // Sessions whose next prompt is this plugin's.
  const continued = new Set()
  let parts = 0
  // What a subagent is shown, the agent does not see.
  const isSubagent = async (id) => Boolean((await client.session.get({ path: { id } })).data?.parentID)

  return {
    "chat.message": async ({ sessionID }, output) => {
      if (await isSubagent(sessionID)) return
      const text = ask("chat.message", { cwd: directory, continued: continued.delete(sessionID) })
      if (!text) return
      // Parts are ordered by their ids: this one comes last.
      const id = `prt_zz${Date.now().toString(36)}${(parts++).toString(36)}`
      output.parts.push({ id, sessionID, messageID: output.message.id, type: "text", synthetic: true, text })
    },
    "tool.execute.after": async ({ sessionID }, output) => {
      if (typeof output.output !== "string" || (await isSubagent(sessionID))) return
      const text = ask("tool.execute.after", { cwd: directory })
      if (text) output.output += `\n\n${text}`
    },
    event: async ({ event }) => {
      if (event.type !== "session.idle") return
      const id = event.properties.sessionID
      if (await isSubagent(id)) return
      const text = ask("session.idle", { cwd: directory })
      if (!text) return
      continued.add(id)
      // It ends with the turn, which this event must not wait for.
      void client.session.prompt({ path: { id }, body: { parts: [{ type: "text", text }] } }).catch(() => continued.delete(id))
    },
  }
}
