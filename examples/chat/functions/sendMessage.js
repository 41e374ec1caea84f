export default {
  input: {
    channel: { type: "string", required: true, minLength: 1, maxLength: 50 },
    content: { type: "string", required: true, minLength: 1, maxLength: 2000 },
    author: { type: "string", maxLength: 50 },
  },

  async handler(input, context) {
    const author = input.author?.trim() || `Anon-${Math.random().toString(36).slice(2, 6)}`;
    const message = await context.db.messages.create({
      channel: input.channel,
      content: input.content,
      author,
    });
    context.log.info("message sent", { channel: message.channel });
    return { id: message.id, channel: message.channel, author: message.author, content: message.content };
  },
};
