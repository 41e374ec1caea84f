const PAGE = 1000;
const RECENT = 200;

export default {
  async handler(_input, context) {
    const channels = {};
    let totalMessages = 0;
    for (let offset = 0; ; offset += PAGE) {
      const { docs, total } = await context.db.messages.list({ sort: "id", limit: PAGE, offset, fields: ["channel"] });
      totalMessages = total;
      for (const { channel } of docs) channels[channel] = (channels[channel] ?? 0) + 1;
      if (docs.length < PAGE) break;
    }

    const recent = await context.db.messages.list({ sort: "-created_at", limit: RECENT });
    const recentAuthors = [...new Set(recent.docs.map((message) => message.author))].slice(0, 10);
    return { totalMessages, channels, recentAuthors };
  },
};
