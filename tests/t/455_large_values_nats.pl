# A value that needs many messages of a broker: it arrives exactly in both of the regions that read it, and the publisher
# gives the memory back.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $LARGE = $ENV{TIDE_LARGE_MB} // 70;
my $LIMIT = 60 + $LARGE;    # seconds

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)], transport => 'nats', conf => "max_wal_size = 4GB\nshared_buffers = 128MB\n");
$mesh->sql_all('CREATE TABLE big (id int PRIMARY KEY, v text); ALTER TABLE big ALTER v SET STORAGE EXTERNAL');
$mesh->class('shop');
$mesh->add_table('big', 'shop');
$mesh->link($_, 'us') for qw(eu ap);
$mesh->start_relays;
ok(defined $mesh->wait_copied($_, 'us'), "$_ takes rows from us") for qw(eu ap);

# No method makes it smaller.
my $value = "repeat((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 31250) n), $LARGE)";
$mesh->sql('us', "INSERT INTO big VALUES (1, $value), (2, 'small')");
ok(defined $mesh->wait_for_catchup('us', $_, $LIMIT), "a value of $LARGE MB arrives in $_") for qw(eu ap);
$mesh->same_tables('... exactly', ['big']);
$mesh->sql('us', q{INSERT INTO big VALUES (3, 'behind')});
ok(defined $mesh->wait_for_catchup('us', $_, $LIMIT), "... and in $_ what is behind it") for qw(eu ap);
$mesh->same_tables('... exactly', ['big']);

# The next run begins where this one ended.
my $publisher = $mesh->relay('us');
my ($now, $most) = $publisher->memory_kib;
cmp_ok($most, '>', 2 * $LARGE * 1000, sprintf 'the publisher took %d MiB', $most / 1024);
my $took = wait_until(sub { $publisher->alive && ($publisher->memory_kib)[0] < 60 * 1024 }, 100, 'the memory to be given back');
ok(defined $took, '... and gives them back a minute later');
$mesh->sql('us', q{INSERT INTO big VALUES (4, 'a new run')});
ok(defined $mesh->wait_for_catchup('us', $_, $LIMIT), "... after which rows arrive in $_") for qw(eu ap);
$mesh->same_tables('... exactly', ['big']);
unlike($mesh->relay($_)->log_text, qr/level=(?:warn|error)/, "nothing went wrong in $_") for $mesh->sides;
$mesh->nothing_special('no resync');
$mesh->stop;

done_testing();
