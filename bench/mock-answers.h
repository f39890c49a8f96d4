/*
 * What the pretend vendor says, as OpenAI spells it. mock-upstream.ts says the same for machines without a C compiler:
 * change both.
 */
#include <stdio.h>
#include <string.h>

static const char COMPLETION[] =
    "{\"id\":\"chatcmpl-bench0000000000000000000000\",\"object\":\"chat.completion\",\"created\":1767225600,"
    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A sally port is a "
    "small, well guarded door in a fortification. It lets the people inside come out to meet whoever is at the wall, "
    "and it is built so that nobody outside can use it to get in.\",\"refusal\":null},\"logprobs\":null,"
    "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":187,\"completion_tokens\":42,\"total_tokens\":229},"
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench00000\"}";

#define EVENT(delta, finish)                                                                                          \
  "data: {\"id\":\"chatcmpl-bench0000000000000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1767225600," \
  "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish "}]}\n\n"
static const char EVENT_WORD[] = EVENT("{\"content\":\" fortress\"}", "null");
static const char EVENT_LAST[] = EVENT("{}", "\"stop\"");
static const char EVENT_USAGE[] =
    "data: {\"id\":\"chatcmpl-bench0000000000000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,"
    "\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":187,\"completion_tokens\":42,\"total_tokens\":229}}"
    "\n\n";
static const char EVENT_DONE[] = "data: [DONE]\n\n";
static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

/* Everything that is ever sent, framed once at the start. */
struct bytes { char at[1280]; size_t length; };
static struct bytes plain, list, stream_head, word, last, usage, end;

static void frame_body(struct bytes *into, const char *json) {
  into->length = (size_t)snprintf(into->at, sizeof into->at,
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", strlen(json), json);
}

static void frame_chunk(struct bytes *into, const char *event, const char *tail) {
  into->length = (size_t)snprintf(into->at, sizeof into->at, "%zx\r\n%s\r\n%s", strlen(event), event, tail);
}

static void frame_count(int streams) {
  char json[64];
  snprintf(json, sizeof json, "{\"object\":\"list\",\"data\":[],\"streams\":%d}", streams);
  frame_body(&list, json);
}

static void frame_answers(void) {
  frame_body(&plain, COMPLETION);
  stream_head.length = (size_t)snprintf(stream_head.at, sizeof stream_head.at, "%s", STREAM_HEAD);
  frame_chunk(&word, EVENT_WORD, "");
  frame_chunk(&last, EVENT_LAST, "");
  frame_chunk(&usage, EVENT_USAGE, "");
  frame_chunk(&end, EVENT_DONE, "0\r\n\r\n");
}
