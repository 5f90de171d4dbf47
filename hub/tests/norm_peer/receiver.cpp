// A receiver of NRL's NORM library, as it comes with Debian (libnorm-dev): what ours send has to satisfy.
//
//   receiver GROUP PORT INTERFACE NODE COUNT FOLDER [LOSS_PERCENT] [ADDRESS_OF_SENDER]
//
// Writes COUNT files into FOLDER, each named by its NORM_INFO, prints a line for each, and ends. With the sender's address,
// NACKs go there; without, to the group, as the library does by default.
#include <normApi.h>
#include <cstdio>
#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
    if (argc < 7) return 2;
    NormInstanceHandle instance = NormCreateInstance();
    NormSessionHandle session = NormCreateSession(instance, argv[1], atoi(argv[2]), strtoul(argv[4], nullptr, 10));
    NormSetMulticastInterface(session, argv[3]);
    NormSetRxPortReuse(session, true);
    if (argc > 7) NormSetRxLoss(session, atof(argv[7]));
    if (argc > 8) NormSetDefaultUnicastNack(session, true);
    std::string folder = argv[6];
    NormSetCacheDirectory(instance, (folder + "/").c_str());
    if (!NormStartReceiver(session, 32 << 20)) return 3;
    // Of a socket that isn't open yet the library sets nothing.
    NormSetRxSocketBuffer(session, 4 << 20);
    printf("ready\n");
    fflush(stdout);
    int left = atoi(argv[5]);
    NormEvent event;
    while (left > 0 && NormGetNextEvent(instance, &event)) {
        char name[256] = "";
        switch (event.type) {
            case NORM_RX_OBJECT_COMPLETED:
                NormObjectGetInfo(event.object, name, sizeof name - 1);
                NormFileRename(event.object, (folder + "/" + name).c_str());
                printf("complete %s\n", name);
                fflush(stdout);
                left--;
                break;
            case NORM_RX_OBJECT_ABORTED: printf("aborted\n"); fflush(stdout); break;
            default: break;
        }
    }
    // Answers flushes until it is ended: the sender may have missed the acknowledgement.
    while (NormGetNextEvent(instance, &event)) {}
    return 0;
}
