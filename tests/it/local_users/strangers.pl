# What another local user can try with a socket in the file system.
#   perl strangers.pl ask SOCKET HEX    connects, says these bytes, and prints `refused: WHY` or `connected, N bytes came`
#   perl strangers.pl squat SOCKET      listens there, prints `listening`, then `heard N bytes` for each connection
use strict;
use warnings;
use Socket;

$| = 1;
$SIG{PIPE} = 'IGNORE';
my ($what, $path, $hex) = @ARGV;
socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die;
if ($what eq 'ask') {
    connect($socket, sockaddr_un($path)) or do { print "refused: $!\n"; exit };
    syswrite $socket, pack('H*', $hex);
    my $count = sysread $socket, my $answer, 65536;
    print 'connected, ', $count // 0, " bytes came\n";
    exit;
}
bind($socket, sockaddr_un($path)) or die "bind: $!";
chmod 0777, $path or die;
listen($socket, 8) or die;
print "listening\n";
while (accept(my $client, $socket)) {
    my ($heard, $count) = (0, 0);
    $heard += $count while $count = sysread $client, my $data, 65536;
    print "heard $heard bytes\n";
}
