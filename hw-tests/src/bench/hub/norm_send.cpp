// A sender of NRL's NORM library, as it comes with Debian (libnorm-dev): one file to a group, until every node has it.
//
//   norm_send GROUP PORT INTERFACE RATE FILE NODE...
//
// RATE is in bits per second of NORM messages, without the headers around them. Blocks have 64 segments of 1400 bytes and up to
// 32 of parity, which are sent on demand.
#include <normApi.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
    if (argc < 7) return 2;
    NormInstanceHandle instance = NormCreateInstance();
    NormSessionHandle session = NormCreateSession(instance, argv[1], atoi(argv[2]), 1);
    NormSetMulticastInterface(session, argv[3]);
    NormSetCongestionControl(session, false);
    NormSetTxRate(session, atof(argv[4]));
    // The library begins with half a second; a LAN is told so, as other senders are.
    NormSetGrttEstimate(session, 0.01);
    for (int at = 6; at < argc; at++) NormAddAckingNode(session, strtoul(argv[at], nullptr, 10));
    if (!NormStartSender(session, NormGetRandomSessionId(), 64 << 20, 1400, 64, 32)) return 3;
    NormSetTxSocketBuffer(session, 4 << 20);
    const char* file = argv[5];
    const char* slash = strrchr(file, '/');
    const char* name = slash ? slash + 1 : file;
    NormObjectHandle object = NormFileEnqueue(session, file, name, strlen(name));
    if (object == NORM_OBJECT_INVALID || !NormSetWatermark(session, object, true)) return 3;
    NormEvent event;
    while (NormGetNextEvent(instance, &event)) {
        if (event.type != NORM_TX_WATERMARK_COMPLETED) continue;
        if (NormGetAckingStatus(session) == NORM_ACK_SUCCESS) {
            printf("complete\n");
            return 0;
        }
        // Some node has not answered yet: it is asked again.
        NormResetWatermark(session);
    }
    return 1;
}
