# A value that needs many messages of a broker: it arrives exactly in both of the regions that read it.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;

my $LARGE = $ENV{TIDE_LARGE_MB} // 60;
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
$mesh->nothing_special('no resync');
$mesh->stop;

done_testing();
